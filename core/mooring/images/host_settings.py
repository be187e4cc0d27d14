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
from mooring.host.filesystems import is_below
from mooring.host.text import one_line
from mooring.host.users import caller
from mooring.images.sources import is_sensitive, refuse_host

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
# With or without a scheme, a user name alone may be a token; so may what a query calls one
_CREDENTIALS = re.compile(
    r"^[^/\s@=]*@|://[^/\s]*@|[?&][^=&\s]*(auth|key|pass|secret|token)[^=&\s]*=", re.IGNORECASE
)
# Of pip, npm, conda, wget, Maven, proxies and the like, except in a comment
_CREDENTIALS_OF_FILES = re.compile(
    rb"^(?![ \t]*[#;\"]).*"
    rb"(://[^/\s:@\"'$<]+:[^/\s@\"'$<]+@|:_?(auth|password|authToken)\s*=|_?authToken\s*="
    rb"|\b(proxy|http|ftp)_?password\s*=\s*\S|<password>[^<])",
    re.MULTILINE | re.IGNORECASE,
)
_XML_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
# uv's: NAME=URL
_NAMED = re.compile(r"[\w.-]+=\w+://")
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?(/|$)", re.IGNORECASE)
_EVERYBODY = 0o004
# What is more is mounted. A mount takes an engine some milliseconds, at every start
_COPIED_FILES, _COPIED_BYTES = 400, 1 << 18
# What is more is left out
_LOOKED_AT = 20_000
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
        tree = _tree(path)
        if tree is None:
            continue
        if tree.is_small and path not in _OFTEN_CHANGED:
            copied += tree.public
        elif tree.is_public:
            mounted.append(path)
        else:
            copied += tree.public
    return Etc(tuple(copied), tuple(mounted))


def has_credentials(contents: bytes) -> bool:
    """Return whether a file of settings has a password or a token: then no image has the file."""
    return bool(_CREDENTIALS_OF_FILES.search(_XML_COMMENT.sub(b"", contents)))


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
    given = {
        name: environ[name] for name in names if environ.get(name) and not _objection(name, environ)
    }
    return {
        name: _normal(value) if name in _CERTIFICATES else value for name, value in given.items()
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


def source_of(path: str) -> tuple[str, str]:
    """Return the real path of what a variable of the creator's names, and why it is not mounted.

    What a session could write to, it could replace by a link to what it must not see: only a link
    of the system's own, or to the whole home, may lead to a source.

    Args:
        path: an absolute path that exists.

    Returns:
        The real path; and the reason, empty if it may be mounted.
    """
    home = caller().home
    source, plain = os.path.realpath(path), _normal(path)
    if is_sensitive(Path(source), Path(os.path.realpath(home))):
        return source, "because it is your home, or in a folder of your home with keys"
    if is_below(plain, home):
        plain = os.path.realpath(home) + plain[len(home) :]
    if source != plain and not any(is_below(source, top) for top in ("/usr", "/opt")):
        return source, f"because a link leads to it: use {one_line(source)} itself"
    return source, ""


def _both_cases() -> list[str]:
    return [name for proxy in _PROXIES for name in (proxy, proxy.upper())]


def _objection(name: str, environ: Mapping[str, str]) -> str:
    """Return why a session must not have a variable, or has no use for it; empty for neither."""
    value = environ[name]
    if name in _CERTIFICATES:
        value = _normal(value)
        if not (os.path.isabs(value) and os.path.exists(value)):
            return "because there is no such absolute path"
        if has(value):
            return ""
        source, why = source_of(value)
        try:
            refuse_host(Path(source), name, ())
        except PolicyError:
            return "because its path would expose the host"
        return why
    if name.lower() == "no_proxy":
        return ""
    urls = [part.partition("=")[2] if _NAMED.match(part) else part for part in value.split()]
    if any(map(_CREDENTIALS.search, urls)):
        return "because it has a password or a token in it: see secrets"
    try:
        hosts = [_host(url) for url in urls]
    except ValueError:  # its text may be part of a password
        return "because it is no URL"
    if any(map(_LOOPBACK.match, hosts)):
        return "because it is at this machine's loopback address, which is not the session's"
    return ""


def _host(url: str) -> str:
    """Return a URL's host and port; raise ValueError if it is none."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    _ = parts.port  # parsed here
    return parts.netloc


def _normal(path: str) -> str:
    """Return a path as one may mount it: without ``..``, and one slash between names."""
    return re.sub("^/+", "/", os.path.normpath(path))


def _matches(name: str, pattern: str) -> bool:
    """Like ``fnmatch``, for patterns with one star at the end or at the beginning; no compiling."""
    start, star, end = pattern.partition("*")
    return name.startswith(start) and name.endswith(end) if star else name == pattern


def _is_public(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & _EVERYBODY)
    except OSError:
        return False


@dataclass(frozen=True)
class _Tree:
    """A file, or a folder with its contents.

    Attributes:
        public: what everybody may read of it.
        size_bytes: the sum of their sizes.
        is_public: whether that is all.
    """

    public: list[Copied]
    size_bytes: int
    is_public: bool

    @property
    def is_small(self) -> bool:
        return len(self.public) <= _COPIED_FILES and self.size_bytes <= _COPIED_BYTES


def _tree(top: str) -> _Tree | None:
    """Return what a file or folder of /etc is; None if it is more than one looks at."""
    public, size_bytes, is_public = list[Copied](), 0, True
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
                is_public = False
                continue
        except OSError:
            is_public = False
            continue
        public.append(Copied(target, source, (info.st_mode, info.st_size, info.st_mtime_ns)))
        if len(public) > _LOOKED_AT:
            return None
    return _Tree(public, size_bytes, is_public)
