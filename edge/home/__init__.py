"""The page that a member opens, and the features behind it. `python -m edge.home`; see `edge.home.service`."""
