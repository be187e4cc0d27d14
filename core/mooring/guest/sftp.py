"""An SFTP server over standard input and output, for images without OpenSSH's own; see ssh.sh.

It runs in the session, as its user, and serves the session's files: what that user may do is what
it may do. The protocol is version 3, https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02,
with the extensions of OpenSSH's PROTOCOL file that sftp, scp and sshfs use.
"""

import errno
import grp
import os
import pwd
import stat
import struct
import sys
import time

OK, EOF, NO_FILE, DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
WORDS = {
    OK: "Success",
    EOF: "End of file",
    NO_FILE: "No such file",
    DENIED: "Permission denied",
    BAD_MESSAGE: "Bad message",
    UNSUPPORTED: "Operation unsupported",
}
HAS_SIZE, HAS_OWNER, HAS_MODE, HAS_TIMES, HAS_EXTENDED = 1, 2, 4, 8, 1 << 31
READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32
MAX_PACKET, MAX_DATA, MAX_HANDLES, MAX_NAMES = (1 << 18) + 1024, (1 << 18) - 1024, 1000, 100
SIX_MONTHS_S = 182 * 24 * 3600
EXTENSIONS = (
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"hardlink@openssh.com", b"1"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
    (b"expand-path@openssh.com", b"1"),
)


class Refused(Exception):
    """A request that is answered with a status; its argument is the status."""


def string(data):
    """Encode a string."""
    return struct.pack(">I", len(data)) + data


class Message:
    """The fields of a request, read in order."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        """Return the next bytes."""
        piece = self.data[self.at : self.at + count]
        if len(piece) < count:
            raise Refused(BAD_MESSAGE)
        self.at += count
        return piece

    def number(self):
        """Return the next 32-bit number."""
        return struct.unpack(">I", self.take(4))[0]

    def long(self):
        """Return the next 64-bit number."""
        return struct.unpack(">Q", self.take(8))[0]

    def string(self):
        """Return the next string, as bytes."""
        return self.take(self.number())

    def path(self):
        """Return the next string as a path; an empty one is the current folder."""
        path = self.string()
        if b"\0" in path:
            raise Refused(NO_FILE)
        return path or b"."

    def attributes(self):
        """Return the next attributes: size, (uid, gid), mode and (atime, mtime), or None."""
        flags = self.number()
        size = self.long() if flags & HAS_SIZE else None
        owner = (self.number(), self.number()) if flags & HAS_OWNER else None
        mode = self.number() & 0o7777 if flags & HAS_MODE else None
        times = (self.number(), self.number()) if flags & HAS_TIMES else None
        if flags & HAS_EXTENDED:
            for _ in range(min(self.number(), 100)):
                self.string(), self.string()
        return size, owner, mode, times


def attributes(info):
    """Encode a file's attributes."""
    times = (int(value) & 0xFFFFFFFF for value in (info.st_atime, info.st_mtime))
    flags = HAS_SIZE | HAS_OWNER | HAS_MODE | HAS_TIMES
    return struct.pack(
        ">IQIIIII", flags, info.st_size, info.st_uid, info.st_gid, info.st_mode, *times
    )


def named(look_up, number):
    """Return the name of a user or group as text, or its number if it has none."""
    try:
        return look_up(number)[0]
    except KeyError:
        return str(number)


def long_name(name, info):
    """Return the line that ``ls -l`` shows for a file."""
    then = time.localtime(info.st_mtime)
    recent = 0 <= time.time() - info.st_mtime < SIX_MONTHS_S
    line = "%s %3d %-8s %-8s %8d %s " % (
        stat.filemode(info.st_mode),
        info.st_nlink,
        named(pwd.getpwuid, info.st_uid),
        named(grp.getgrgid, info.st_gid),
        info.st_size,
        time.strftime("%b %d %H:%M" if recent else "%b %d  %Y", then),
    )
    return line.encode(errors="replace") + name


def change(target, changes, follow=True):
    """Set attributes of an open file or a path."""
    size, owner, mode, times = changes
    link = follow  # whether chmod(2) itself may
    if size is not None:
        if not follow:
            raise Refused(BAD_MESSAGE)
        os.truncate(target, size)
    if mode is not None:
        if not follow and os.chmod not in os.supports_follow_symlinks:
            if stat.S_ISLNK(os.lstat(target).st_mode):
                raise Refused(UNSUPPORTED)
            link = True
        os.chmod(target, mode, follow_symlinks=link)
    if times is not None:
        os.utime(target, times, follow_symlinks=follow)
    if owner is not None:
        os.chown(target, owner[0], owner[1], follow_symlinks=follow)


class Folder:
    """A folder whose names are read."""

    def __init__(self, path):
        self.path = path
        self.entries = os.scandir(path)
        self.dots = [b".", b".."]

    def next(self):
        """Return the next names, each with its attributes; empty at the end."""
        found: list[object] = []
        while len(found) < MAX_NAMES:
            if self.dots:
                name = self.dots.pop(0)
            else:
                entry = next(self.entries, None)
                if entry is None:
                    break
                name = os.fsencode(entry.name)
            try:
                found.append((name, os.lstat(os.path.join(self.path, name))))
            except OSError:  # deleted meanwhile
                continue
        return found


class Server:
    """Answers requests, one after the other."""

    def __init__(self):
        self.handles = {}
        self.last = 0

    # answers

    def status(self, code, text=""):
        words = (text or WORDS.get(code, "Failure")).encode(errors="replace")
        return STATUS, struct.pack(">I", code) + string(words) + string(b"")

    def names(self, found):
        parts = [struct.pack(">I", len(found))]
        for name, info in found:
            if info is None:
                parts.append(string(name) + string(name) + struct.pack(">I", 0))
            else:
                parts.append(string(name) + string(long_name(name, info)) + attributes(info))
        return NAME, b"".join(parts)

    def opened(self, thing):
        self.last += 1
        key = b"%d" % self.last
        self.handles[key] = thing
        return HANDLE, string(key)

    def handle(self, message, kind):
        thing = self.handles.get(message.string())
        if not isinstance(thing, kind):
            raise Refused(FAILURE)
        return thing

    def answer(self, kind, message):
        """Return the kind and the content of the answer to a request."""
        handler = HANDLERS.get(kind)
        if handler is None:
            return self.status(UNSUPPORTED)
        try:
            return handler(self, message) or self.status(OK)
        except Refused as refused:
            return self.status(refused.args[0])
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EBADF):
                return self.status(NO_FILE)
            if error.errno in (errno.EACCES, errno.EPERM):
                return self.status(DENIED)
            if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
                return self.status(UNSUPPORTED)
            return self.status(FAILURE, error.strerror or "Failure")
        except (ValueError, OverflowError):
            return self.status(BAD_MESSAGE)

    # files

    def open(self, message):
        path, asked, changes = message.path(), message.number(), message.attributes()
        if len(self.handles) >= MAX_HANDLES:
            raise Refused(FAILURE)
        flags = {READ: os.O_RDONLY, WRITE: os.O_WRONLY, READ | WRITE: os.O_RDWR}.get(asked & 3)
        if flags is None:
            raise Refused(BAD_MESSAGE)
        for bit, flag in (
            (APPEND, os.O_APPEND),
            (CREATE, os.O_CREAT),
            (TRUNCATE, os.O_TRUNC),
            (EXCLUSIVE, os.O_EXCL),
        ):
            flags |= flag if asked & bit else 0
        mode = 0o666 if changes[2] is None else changes[2] & 0o777
        return self.opened(os.open(path, flags | os.O_CLOEXEC, mode))

    def close(self, message):
        key = message.string()
        thing = self.handles.pop(key, None)
        if isinstance(thing, int):
            os.close(thing)
        elif isinstance(thing, Folder):
            thing.entries.close()
        else:
            raise Refused(FAILURE)

    def read(self, message):
        file, offset, count = self.handle(message, int), message.long(), message.number()
        data = os.pread(file, min(count, MAX_DATA), offset)
        if not data:
            raise Refused(EOF)
        return DATA, string(data)

    def write(self, message):
        file, offset, data = self.handle(message, int), message.long(), message.string()
        while data:
            count = os.pwrite(file, data, offset)
            offset, data = offset + count, data[count:]

    def lstat(self, message):
        return ATTRS, attributes(os.lstat(message.path()))

    def stat(self, message):
        return ATTRS, attributes(os.stat(message.path()))

    def fstat(self, message):
        return ATTRS, attributes(os.fstat(self.handle(message, int)))

    def setstat(self, message):
        path = message.path()
        change(path, message.attributes())

    def fsetstat(self, message):
        file = self.handle(message, int)
        change(file, message.attributes())

    # folders

    def opendir(self, message):
        if len(self.handles) >= MAX_HANDLES:
            raise Refused(FAILURE)
        return self.opened(Folder(message.path()))

    def readdir(self, message):
        found = self.handle(message, Folder).next()
        if not found:
            raise Refused(EOF)
        return self.names(found)

    def remove(self, message):
        os.unlink(message.path())

    def mkdir(self, message):
        path, changes = message.path(), message.attributes()
        os.mkdir(path, 0o777 if changes[2] is None else changes[2])

    def rmdir(self, message):
        os.rmdir(message.path())

    def realpath(self, message):
        return self.names([(os.path.realpath(message.path()), None)])

    def rename(self, message):
        """Rename a file or folder, unless the new name exists."""
        old, new = message.path(), message.path()
        if os.path.lexists(new):
            raise Refused(FAILURE)
        os.rename(old, new)

    def readlink(self, message):
        return self.names([(os.readlink(message.path()), None)])

    def symlink(self, message):
        """Create a link; OpenSSH sends the target first, which the draft has second."""
        target, link = message.path(), message.path()
        os.symlink(target, link)

    # extensions

    def extended(self, message):
        handler = EXTENDED.get(message.string())
        if handler is None:
            raise Refused(UNSUPPORTED)
        return handler(self, message)

    def posix_rename(self, message):
        os.rename(message.path(), message.path())

    def hardlink(self, message):
        os.link(message.path(), message.path(), follow_symlinks=False)

    def fsync(self, message):
        os.fsync(self.handle(message, int))

    def lsetstat(self, message):
        path = message.path()
        change(path, message.attributes(), follow=False)

    def limits(self, message):
        return EXTENDED_REPLY, struct.pack(">QQQQ", MAX_PACKET, MAX_DATA, MAX_DATA, MAX_HANDLES)

    def expand_path(self, message):
        path = message.path()
        path = os.path.expanduser(path) if path.startswith(b"~") else path
        return self.names([(os.path.realpath(path), None)])

    def statvfs(self, message):
        return self.file_system(os.statvfs(message.path()))

    def fstatvfs(self, message):
        return self.file_system(os.statvfs(self.handle(message, int)))

    def file_system(self, info):
        flags = info.f_flag & 3  # read-only, no set-user-ID: the same bits in the protocol
        return EXTENDED_REPLY, struct.pack(
            ">11Q",
            info.f_bsize,
            info.f_frsize,
            info.f_blocks,
            info.f_bfree,
            info.f_bavail,
            info.f_files,
            info.f_ffree,
            info.f_favail,
            info.f_fsid & 0xFFFFFFFFFFFFFFFF,
            flags,
            info.f_namemax,
        )


HANDLERS = {
    3: Server.open,
    4: Server.close,
    5: Server.read,
    6: Server.write,
    7: Server.lstat,
    8: Server.fstat,
    9: Server.setstat,
    10: Server.fsetstat,
    11: Server.opendir,
    12: Server.readdir,
    13: Server.remove,
    14: Server.mkdir,
    15: Server.rmdir,
    16: Server.realpath,
    17: Server.stat,
    18: Server.rename,
    19: Server.readlink,
    20: Server.symlink,
    200: Server.extended,
}
EXTENDED = {
    b"posix-rename@openssh.com": Server.posix_rename,
    b"statvfs@openssh.com": Server.statvfs,
    b"fstatvfs@openssh.com": Server.fstatvfs,
    b"hardlink@openssh.com": Server.hardlink,
    b"fsync@openssh.com": Server.fsync,
    b"lsetstat@openssh.com": Server.lsetstat,
    b"limits@openssh.com": Server.limits,
    b"expand-path@openssh.com": Server.expand_path,
}


def main():
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    server = Server()

    def send(kind, content):
        sink.write(struct.pack(">IB", len(content) + 1, kind))
        sink.write(content)
        sink.flush()

    while True:
        head = source.read(5)
        if len(head) < 5:
            return
        length, kind = struct.unpack(">IB", head)
        if not 1 <= length <= MAX_PACKET:
            sys.exit("sftp: a message of %d bytes" % length)
        message = Message(source.read(length - 1))
        if kind == 1:
            extensions = b"".join(string(name) + string(value) for name, value in EXTENSIONS)
            send(2, struct.pack(">I", 3) + extensions)
            continue
        try:
            number = message.take(4)
        except Refused:
            sys.exit("sftp: a message without a number")
        answer, content = server.answer(kind, message)
        send(answer, number + content)


if __name__ == "__main__":
    main()
