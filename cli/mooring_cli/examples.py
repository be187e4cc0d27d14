"""Examples of each command, for its help."""

from __future__ import annotations

#: By command: lines without ``mooring``, each with what it does.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "init": (
        ("init", "ask, and write session.yml"),
        ("init --image python:3.12 --gpus 1 gpu.yml", "from flags"),
    ),
    "validate": (("validate", "session.yml"), ("validate specs/*.yml", "several")),
    "create": (
        ("create", "a shell on this machine's software, in a container"),
        ("create -d --name train -- python train.py", "in the background"),
        ("create --dry-run session.yml", "what would be created"),
    ),
    "start": (("start train", "with its files, and its GPUs if they are free"),),
    "stop": (("stop train", ""), ("stop 'sweep-*' --yes", "all whose names match")),
    "rm": (("rm train", "a stopped session"), ("rm -f train", "a running one, too")),
    "hold": (("hold train", "for two hours"), ("hold train 12h", ""), ("hold train off", "")),
    "update": (
        ("update train --idle-timeout 4h", ""),
        ("update train --memory 32GiB --cpus 8", ""),
    ),
    "purge": (("purge --dry-run", "what there is"), ("purge", "")),
    "trust": (("trust session.yml", ""),),
    "run": (
        ("run --rm host -c 'print(6 * 7)'", "Python code"),
        ("run --rm host train.py -- python3 train.py", "a copy of the file"),
        ("run --gpus 1 python:3.12", "a shell in an image"),
    ),
    "exec": (
        ("exec train", "a new shell"),
        ("exec train -- nvidia-smi", "a command"),
        ("exec train -- tar c out | tar x", "its output, byte by byte"),
    ),
    "logs": (("logs -f train", "follow"), ("logs --tail 20 train", "")),
    "attach": (("attach train", "its main process"), ("attach train t1", "a terminal")),
    "terminals": (("terminals train", ""),),
    "cp": (
        ("cp data.csv train:/tmp/", "into a session"),
        ("cp train:results ./", "out of it, folders too"),
    ),
    "port-forward": (("port-forward train 6006", "then open http://127.0.0.1:6006"),),
    "code": (("code train", ""),),
    "ssh-config": (
        ("ssh-config --install", "then: ssh train"),
        ("ssh-config --via gpu1", "for use on a laptop"),
    ),
    "ssh-proxy": (("ssh-proxy train", "as ssh runs it"),),
    "ps": (
        ("ps", ""),
        ("ps --filter state=running --format name,gpus,stops_in", ""),
        ("ps -q | xargs -n 1 mooring describe", ""),
    ),
    "describe": (("describe train", ""), ("describe --json train", "for programs")),
    "events": (("events train", ""), ("events -f train", "as they happen")),
    "why": (("why train", ""),),
    "gpus": (("gpus", "who holds them, and who waits"),),
    "top": (("top", ""),),
    "doctor": (("doctor", ""),),
    "kernel install": (
        ("kernel install", "a kernel on this machine's software"),
        ("kernel install -f session.yml --name bert", "one of a spec"),
        ("kernel install -f session.yml --session lab", "they share one"),
    ),
    "kernel list": (("kernel list", ""),),
    "kernel remove": (("kernel remove bert", ""),),
    "config show": (("config show -f session.yml --gpus 2", "each value, and its origin"),),
    "config schema": (("config schema >session.schema.json", ""),),
    "config profiles": (("config profiles", ""),),
    "config policy": (("config policy", ""),),
}
