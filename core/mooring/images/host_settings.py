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
# Of files: what names a password or a token, with what stands between it and its value
_NAMED_SECRET = re.compile(
    rb"(?:(?:api|access|secret|private|account)[_-]?key|auth[_-]?token|token|secret|pass(?:word|phrase)"
    rb"|(?<=[_-])(?:pass|passwd|pwd|auth)|\"auth|(?<![a-z])passwd(?=[ \t]*=))"
    rb"(?P<before>[\"']?\]?[ \t]*)[=:](?P<after>[ \t]*)[\"']?",
    re.IGNORECASE,
)
_XML_SECRET = re.compile(rb"<(?:password|passphrase|secret|token)>\s*(?=[^<\s])", re.IGNORECASE)
_HEADER = re.compile(
    rb"authorization[\"']?[ \t]*[:=][ \t]*[\"']?(?:apikey|basic|bearer|digest|token)[ \t]+[\"']?",
    re.IGNORECASE,
)
_SETENV = re.compile(rb"^setenv[ \t]+(\w+)[ \t]+", re.IGNORECASE)
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY")
_NETRC = (b"default", b"login", b"machine", b"password")
_CONDA_TOKEN = re.compile(rb"/t/(?:tk|[a-z]{2})-[0-9a-f]{8}", re.IGNORECASE)
_OF_URL = re.compile(rb"://([^/\s@\"'<>]{1,300})@")
_SCHEMES_OF_TOKENS = (b"http", b"https", b"socks4", b"socks5", b"socks5h")  # not ssh://git@host
# The user of a proxy without a scheme
_PROXY = re.compile(
    rb"proxy[\w.-]{0,40}[ \t]*[=: \t][ \t]*[\"']?([^\s/@\"'<>=]{1,200})@", re.IGNORECASE
)
# Of a value: what ends it, what may follow it, what is no password (pass:insta is
# OpenSSL's example), and what stands for one
_VALUE = re.compile(rb"[^\s\"'<>,;]{1,200}")
_AFTER_VALUE = re.compile(rb"[\"']?[ \t]*[,;}\])]*[ \t]*$")
_PLACEHOLDER = re.compile(
    rb"(?:\$\w+|\$\{[\w.]+\}|\$\([^$()]*\)?|`[^`]*`|%\w+%|%[a-z]|\{+[\w.]*\}+|\*)+", re.IGNORECASE
)
_NO_PASSWORD = re.compile(
    rb"[$(*)<>|&{\[%`\\].*|[\w.]+\(.*|pass:insta|(?:ask|default|empty|false|nil|no|none|null|off|on|optional|prompt"
    rb"|required|true|undefined|yes|[01])\)?",
    re.IGNORECASE,
)
# A line of vim's settings begins its comments so; one of JSON, its keys and values
_TEXT_OF_JSON = re.compile(rb"\"[^\"]*\"[ \t]*(?:[:=,\]}\\]|$)")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
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
    """Return whether a file of settings has a password or a token: then no image has the file.

    In time that is proportional to its size, whatever is in it.
    """
    if contents.startswith(_UTF_16):
        contents = contents.decode("utf-16", errors="replace").encode(errors="replace")
    contents = _without_xml_comments(contents)
    xml = any(_is_value(contents, found.end()) for found in _XML_SECRET.finditer(contents))
    return xml or any(map(_line_has_credentials, contents.splitlines()))


def _without_xml_comments(contents: bytes) -> bytes:
    kept, end = list[bytes](), 0
    while (start := contents.find(b"<!--", end)) >= 0:
        after = contents.find(b"-->", start + 4)
        if after < 0:
            break
        kept.append(contents[end:start])
        end = after + 3
    return b"".join((*kept, contents[end:]))


def _line_has_credentials(line: bytes) -> bool:
    """Return whether a line, of whatever kind of file, has a password or a token."""
    line = line.strip()
    if not line or line[:1] in b"#;" or (line[:1] == b'"' and not _TEXT_OF_JSON.match(line)):
        return False
    line = _SETENV.sub(rb"\1=", line)
    if _PRIVATE_KEY.search(line):
        return True
    line = re.split(rb"[ \t]#", line, maxsplit=1)[0]
    if b"://" in line and (
        _CONDA_TOKEN.search(line)
        or any(_is_of_url(line, found) for found in _OF_URL.finditer(line))
    ):
        return True
    for found in _PROXY.finditer(line):
        if b":" in found[1] and not _PLACEHOLDER.fullmatch(found[1].partition(b":")[2]):
            return True
    words = line.split() if line.lower().startswith(_NETRC) else []
    if (words[:1] != [b"password"] or len(words) == 2) and b"password" in words[:-1]:
        return _is_value(words[words.index(b"password") + 1], 0)
    return any(_is_value(line, found.end()) for found in _HEADER.finditer(line)) or any(
        _is_value(line, found.end(), is_last=bool(found["before"].strip(b"\"']") or found["after"]))
        for found in _NAMED_SECRET.finditer(line)
    )


def _is_of_url(line: bytes, found: re.Match[bytes]) -> bool:
    """Return whether the user of a URL has a password, or may be a token."""
    user, _, password = found[1].partition(b":")
    scheme = line[max(0, found.start() - 7) : found.start()].lower()
    if not password and not scheme.endswith(_SCHEMES_OF_TOKENS):
        return False
    return not _PLACEHOLDER.fullmatch(password or user)


def _is_value(line: bytes, start: int, *, is_last: bool = False) -> bool:
    """Return whether what stands at a place may be a password.

    Args:
        line: the line, or more.
        start: the place.
        is_last: nothing may follow it: with spaces around its ``=``, it is no shell's assignment,
            and several words are a sentence.
    """
    part = line[start : start + 300]
    value = _VALUE.match(part)
    if value is None or _NO_PASSWORD.fullmatch(value[0]) or _PLACEHOLDER.fullmatch(value[0]):
        return False
    return not is_last or bool(_AFTER_VALUE.match(part, value.end()))


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
