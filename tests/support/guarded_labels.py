"""A program that runs kd-seg, and ends with code 77 where labels/ of the drive in its first argument is opened."""

GUARDED = """
import sys
drive = sys.argv.pop(1)
def guard(event, arguments):
    path = str(arguments[0]) if event == "open" else ""
    if path.startswith(drive) and "/labels" in path:
        import os
        os.write(2, b"opened " + path.encode())
        os._exit(77)
sys.addaudithook(guard)
from kd_seg.cli.main import main
main()
"""
