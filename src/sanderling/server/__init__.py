"""The composition root: settings, TLS, database, access control and the public API over the joined stages.

    run.run(settings, ready)                      the whole server: `sanderling up`
    registry_alone.run_registry(settings, ready)  the registry and nothing else: `sanderling registry serve`

Nothing is imported here: the one must not wait for what the other needs.
"""
