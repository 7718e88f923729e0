"""A cache server (OCA): serves CMAF segments and manifests from its own store. `python -m edge.oca --index 0`.

    GET, HEAD /<cid>/v<version>/…    the file; single ranges, ETag, 304, 416; open to pages of any origin
              ?narrow_kbps=100       its body at that rate, for a viewer who wants to feel a narrow network
    GET /healthz                     200 while it serves
    POST /admin/fail?rate=0.5        from loopback only: answer that share of requests with 503
    POST /admin/fail?mode=…          slow, hang, corrupt: docs/edge.md, A cache server that fails
    POST /admin/heal                 and stop doing so
    POST /admin/drain                answer new requests with 503, end what is in flight, then exit
    POST /admin/fill?asset=bbb/v1&source=http://…     bring an asset from an IX peer or the origin, in the fill window
    POST /admin/pull?asset=bbb/v1&reason=…            stop serving an asset at once, and remove it

With `--capacity-bytes` it holds assets, whole and verified, and serves those only; without, a directory as it is. What it does not hold is
fetched from `--parent` while the client waits, or refused. A client outside of `--prefixes` gets 403.

Twice a second it says on delivery.oca_report how it is. Each request leaves one event on delivery.access and one line in
`<state_dir>/logs/oca-<n>.access.jsonl`. CMCD in a request's query or headers (request mode) becomes one report on playback.report, and a
dead letter where it is wrong. Serving waits for none of them, and whatever its CMCD is like, a segment is served: what Kafka cannot take
yet is held in memory.
"""
