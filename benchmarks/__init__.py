"""Speed against the tools that others would use, in one run: each case returns rows ``{id, ours, peer, peer_name, ratio, unit, note}``."""
