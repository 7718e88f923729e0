"""`python -m edge.home`."""

from edge.home.service import main

main()
