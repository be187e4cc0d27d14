"""The settings of this machine that ``image: host`` has: parts of /etc, proxies, package indexes.

What is harmless is there, read-only or as a copy, so that a program finds what it finds outside;
docs/explanation/decisions.md lists what is not, and why.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mooring.errors import PolicyError
from mooring.images.sources import refuse_host

# Patterns of what programs need in /etc and what contains no secrets
_ETC = (
    *("DIR_COLORS", "ImageMagick-*", "OpenCL", "R", "alternatives", "bash.bashrc", "bashrc"),
    *("bash_completion", "bash_completion.d", "ca-certificates", "conda", "condarc"),
    *("crypto-policies", "csh.cshrc", "dask", "debian_version", "debuginfod", "environment"),
    *("fish", "fonts", "gai.conf", "gdb", "gitconfig", "glvnd", "gprofng.rc", "groff"),
    *("host.conf", "inputrc", "ipython", "java*", "julia", "krb5.conf", "ld.so.cache"),
    *("ld.so.conf", "ld.so.conf.d", "libibverbs.d", "locale.alias", "locale.conf", "localtime"),
    *("login.defs", "lsb-release", "magic", "magic.mime", "mailcap", "man_db.conf"),
    *("manpath.config", "maven", "matplotlibrc", "mime.types", "nanorc", "nccl.conf", "networks"),
    *("npmrc", "nsswitch.conf", "octave*", "odbcinst.ini", "openmpi*", "os-release"),
    *("papersize", "perl", "pip.conf", "profile", "profile.d", "protocols", "python*"),
    *("*-release", "rpc", "screenrc", "services", "sgml", "shells", "skel", "terminfo"),
    *("texmf", "timezone", "tmux.conf", "ucx", "uv", "vim", "vimrc", "vulkan", "wgetrc"),
    *("xattr.conf", "xdg", "xml", "zsh*"),
    # not the folders beside them, which have private keys
    *("pki/ca-trust", "pki/java", "pki/tls/cert.pem", "pki/tls/certs", "pki/tls/openssl.cnf"),
    *("ssl/cert.pem", "ssl/certs", "ssl/java", "ssl/openssl.cnf"),
)
_LOCALE = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "CONDA_PREFIX", "LD_LIBRARY_PATH")
_PROXIES = ("all_proxy", "ftp_proxy", "http_proxy", "https_proxy", "no_proxy")
_INDEXES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_FIND_LINKS"),
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"),
    *("UV_INSECURE_HOST", "UV_NATIVE_TLS", "NPM_CONFIG_REGISTRY", "HF_ENDPOINT"),
)
_CERTIFICATES = (
    *("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
    *("HTTPLIB2_CA_CERTS", "NIX_SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)
_CREDENTIALS = re.compile(r"://[^/\s@]+@|^[^/\s@]+:[^/\s@]+@")
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?(/|$)", re.IGNORECASE)
_EVERYBODY = 0o004
# What is more is mounted. A mount takes an engine some milliseconds, at every start
_COPIED_FILES, _COPIED_BYTES = 400, 1 << 18
# Written anew by every installation of a package
_OFTEN_CHANGED = ("/etc/ld.so.cache",)


@dataclass(frozen=True)
class Copied:
    """A file, folder or symbolic link of /etc that the image contains.

    Attributes:
        target: its path in the image.
        source: its path on this machine.
        stamp: changes whenever its contents may have changed.
    """

    target: str
    source: str
    stamp: tuple[int, ...]


@dataclass(frozen=True)
class Etc:
    """What ``image: host`` has of /etc: only what everybody on this machine may read.

    Attributes:
        copied: what the image contains, folders before their contents.
        mounted: the paths of what is too large for that, or changes too often.
    """

    copied: tuple[Copied, ...]
    mounted: tuple[str, ...]


def etc() -> Etc:
    """Return what ``image: host`` has of /etc."""
    found = {path for pattern in _ETC for path in glob.glob(os.path.join("/etc", pattern))}
    copied, mounted = list[Copied](), list[str]()
    for path in sorted(filter(_is_public, found)):
        tree = None if path in _OFTEN_CHANGED else _tree(path)
        if tree is None:
            mounted.append(path)
        else:
            copied += tree
    return Etc(tuple(copied), tuple(mounted))


def has(path: str) -> bool:
    """Return whether a path of this machine is one of those that ``etc`` looks at, or is in one."""
    names = path.removeprefix("/etc/").split("/")
    return path.startswith("/etc/") and any(
        _matches("/".join(names[: pattern.count("/") + 1]), pattern) for pattern in _ETC
    )


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a session of ``image: host`` has from its creator's environment.

    Args:
        environ: the creator's.
    """
    names = (*_LOCALE, *_both_cases(), *_INDEXES, *_CERTIFICATES)
    return {
        name: environ[name] for name in names if environ.get(name) and not _objection(name, environ)
    }


def notes(environ: Mapping[str, str]) -> Iterator[str]:
    """Describe the variables that a session does not have although it has others of their kind.

    Args:
        environ: the creator's environment.
    """
    for name in (*_both_cases(), *_INDEXES, *_CERTIFICATES):
        if environ.get(name) and (why := _objection(name, environ)):
            yield f"the session does not have your {name}, {why}"


def certificates(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the paths of the certificates that ``variables`` names, by the variable's name."""
    known = variables(environ)
    return {name: known[name] for name in _CERTIFICATES if name in known}


def _both_cases() -> list[str]:
    return [name for proxy in _PROXIES for name in (proxy, proxy.upper())]


def _objection(name: str, environ: Mapping[str, str]) -> str:
    """Return why a session must not have a variable, or has no use for it; empty for neither."""
    value = environ[name]
    if name in _CERTIFICATES:
        try:
            refuse_host(Path(os.path.realpath(value)), name, ())
        except PolicyError:
            return "because its path would expose the host"
        missing = not (os.path.isabs(value) and os.path.exists(value))
        return "because there is no such absolute path" if missing else ""
    if name.lower() == "no_proxy":
        return ""
    if any(_CREDENTIALS.search(part) for part in value.split()):
        return "because it has a password or a token in it: see secrets"
    if any(_LOOPBACK.match(_host(part)) for part in value.split()):
        return "because it is at this machine's loopback address, which is not the session's"
    return ""


def _host(url: str) -> str:
    return urlsplit(url).netloc if "://" in url else url


def _matches(name: str, pattern: str) -> bool:
    """Like ``fnmatch``, for patterns with one star at the end or at the beginning; no compiling."""
    start, star, end = pattern.partition("*")
    return name.startswith(start) and name.endswith(end) if star else name == pattern


def _is_public(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & _EVERYBODY)
    except OSError:
        return False


def _tree(top: str) -> list[Copied] | None:
    """Return a file, or a folder with all that everybody may read in it; None if it is too much."""
    tree, size_bytes = list[Copied](), 0
    ways = [(top, os.path.realpath(top))]
    while ways:
        target, source = ways.pop()
        try:
            info = os.lstat(source)
            if stat.S_ISDIR(info.st_mode) and info.st_mode & _EVERYBODY:
                names = sorted(os.listdir(source), reverse=True)
                ways += [(f"{target}/{name}", f"{source}/{name}") for name in names]
            elif stat.S_ISREG(info.st_mode) and info.st_mode & _EVERYBODY:
                size_bytes += info.st_size
            elif not stat.S_ISLNK(info.st_mode):
                continue
        except OSError:
            continue
        stamp = (info.st_mode, info.st_size, info.st_mtime_ns)
        tree.append(Copied(target, source, stamp))
        if len(tree) > _COPIED_FILES or size_bytes > _COPIED_BYTES:
            return None
    return tree
