"""`python -m meter_sync` is the console script `meter-sync`."""

from meter_sync.cli import main

if __name__ == "__main__":
    main()
