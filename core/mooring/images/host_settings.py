"""The settings of this machine that ``image: host`` has: parts of /etc, proxies, package indexes.

What is harmless is there, so that a program finds what it finds outside;
docs/explanation/decisions.md lists what is not, and why.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
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


def etc_paths() -> list[str]:
    """Return the paths of what ``image: host`` has of /etc.

    Only what everybody on this machine may read: another file may have a password in it.
    """
    found = {path for pattern in _ETC for path in glob.glob(os.path.join("/etc", pattern))}
    return sorted(filter(_is_public, found))


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


def _is_public(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & _EVERYBODY)
    except OSError:
        return False
