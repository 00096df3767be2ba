"""The words of signatures on images: keys, DSSE envelopes, and the forms in which cosign keeps both.

Whoever signs (the image builder) and whoever checks (the command line, a device) say
the same thing with it. Pure: bytes in, bytes out; keys are ECDSA on P-256 with SHA-256,
by the library cryptography, which only `keys` imports: to know an image's attachments needs none.

    keys.SigningKey.generate()  .from_pem(pem)  .sign(data)  .private_pem()  .public
    keys.PublicKey.parse(pem)   .verify(data, signature)    .pem()          .key_id
    dsse.envelope(payload, key)           dsse.open_envelope(raw, key)
    cosign.payload(...)  cosign.bundle(...)  cosign.tag(...)

Sources: DSSE 1.0 (its protocol and envelope pages), cosign's SIGNATURE_SPEC and
BUNDLE_SPEC, the sigstore bundle 0.3, containers' "simple signing" format.
"""
