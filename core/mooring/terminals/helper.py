"""The former name of ``exit_codes``, which keepers started by earlier versions still run."""

from mooring.terminals.exit_codes import main

if __name__ == "__main__":
    main()
