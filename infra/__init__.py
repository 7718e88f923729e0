"""THE ROAD: settings, clients, the local stack, cluster manifests, fault injection and the command line."""
