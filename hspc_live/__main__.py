"""`python -m hspc_live` is `hspc-live`."""

from hspc_live.cli import main

if __name__ == "__main__":
    main()
