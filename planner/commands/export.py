"""`muxplan export`: writes the deployment files of a plan."""
