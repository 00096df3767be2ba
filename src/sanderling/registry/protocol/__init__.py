"""The OCI distribution protocol over HTTP: paths, rights, bodies, ranges, pages, errors.

Source: distribution-spec 1.1; Docker's token server.
"""
