# relay.py's work where there is no Python: see there
use strict;
use Socket qw(AF_INET AF_INET6 SOCK_STREAM inet_pton pack_sockaddr_in pack_sockaddr_in6);

sub passed {
    my ($data, $to) = @_;
    my $done = 0;
    while ($done < length $data) {
        my $n = syswrite($to, $data, length($data) - $done, $done);
        return 0 unless defined $n;
        $done += $n;
    }
    return 1;
}

$SIG{PIPE} = 'IGNORE';
my ($port, @hosts) = @ARGV;
my $far;
for my $host (@hosts) {
    my $six = $host =~ /:/;
    my $to = inet_pton($six ? AF_INET6 : AF_INET, $host);
    $to = $six ? pack_sockaddr_in6($port, $to) : pack_sockaddr_in($port, $to);
    socket($far, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or next;
    if (connect($far, $to)) { last }
    undef $far;
}
unless ($far) { syswrite(STDERR, "refused\n"); exit 1 }
my $data;
my $sender = fork();
if (!$sender) {
    while (sysread(STDIN, $data, 65536)) {
        unless (passed($data, $far)) { kill 'KILL', getppid(); exit 1 }
    }
    shutdown($far, 1);
    exit 0;
}
my ($count, $n) = (0);
while ($n = sysread($far, $data, 65536)) {
    $count += $n;
    passed($data, \*STDOUT) or last;
}
unless (defined $n) { kill 'KILL', $sender; exit 1 }
syswrite(STDERR, "eof $count\n");
waitpid($sender, 0);
