"""What went into an image, said so that others can check it: lock, bill of materials, provenance, signature.

    used          notes what a build uses, while it does
    contents      what a build used: packages, files, each with its sha256
    licences      what packages say of theirs
    lock          the same as a file to rebuild from, also as pylock.toml (PEP 751)
    sbom          the same as a CycloneDX document, with licences
    provenance    who built it from what, as an in-toto statement (SLSA 1)
    attachments   all of these, and the signature, as OCI manifests about the image
    attach        brings them to a registry or a layout
    signing_keys  the key of each workspace, sealed at rest

No credential reaches any of them: URLs lose user, password and query where they are
taken up (`contents.plain_url`), and of the recipe only digests are told, no place of this machine.
"""
