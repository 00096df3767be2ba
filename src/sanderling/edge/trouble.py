"""Says why a server was not reached, in words that lead on."""


def why_unreachable(error: BaseException) -> str:
    """Return the reason in *error*, and the way out where it is known."""
    detail = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in detail:
        return "its certificate is not trusted; give the CA that signed it with --ca (the server's is tls/ca.pem)"
    return detail
