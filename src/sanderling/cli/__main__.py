"""`python -m sanderling.cli`: the command line, wherever its script is."""

from sanderling.cli.app import main

if __name__ == "__main__":
    main()
