#!/usr/bin/perl
# Mail::DKIM for peers.py: framed requests on standard input, as mailauth_tool takes them.
#   txt NAME, verify, chain, sign METHOD DOMAIN SELECTOR KEYFILE
use strict;
use warnings;
use Mail::DKIM::ARC::Verifier;
use Mail::DKIM::Signer;
use Mail::DKIM::Verifier;
use Net::DNS;

my %records;

{
    no warnings 'redefine';
    # Answers come from the records alone.
    *Mail::DKIM::DNS::query = sub {
        my ( $name, $type ) = @_;
        my $text = $records{ lc $name };
        $@ = 'NXDOMAIN';
        return unless defined $text && $type eq 'TXT';
        my @parts = unpack '(a250)*', $text;
        return Net::DNS::RR->new( owner => $name, type => 'TXT', txtdata => \@parts );
    };
}

sub verify {
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT(shift);
    $verifier->CLOSE;
    return join '', map { $_->result . "\n" } $verifier->signatures;
}

sub chain {
    my $verifier = Mail::DKIM::ARC::Verifier->new;
    $verifier->PRINT(shift);
    $verifier->CLOSE;
    return $verifier->result;
}

sub sign {
    my ( $data, $method, $domain, $selector, $file ) = @_;
    my $signer = Mail::DKIM::Signer->new(
        Algorithm => 'rsa-sha256',
        Method    => $method,
        Domain    => $domain,
        Selector  => $selector,
        KeyFile   => $file,
    );
    $signer->PRINT($data);
    $signer->CLOSE;
    return join '', map { $_->as_string . "\r\n" } $signer->signature;
}

binmode STDIN;
binmode STDOUT;
$| = 1;
while ( defined( my $line = <STDIN> ) ) {
    my ( $command, @words ) = split ' ', $line;
    my $size = pop @words;
    my $data = '';
    read( STDIN, $data, $size ) == $size or die "short request\n" if $size;
    my $answer = '';
    eval {
        if    ( $command eq 'txt' )    { $records{ lc $words[0] } = $data }
        elsif ( $command eq 'verify' ) { $answer = verify($data) }
        elsif ( $command eq 'chain' )  { $answer = chain($data) }
        elsif ( $command eq 'sign' )   { $answer = sign( $data, @words ) }
        else                           { die "unknown command $command\n" }
        1;
    } or $answer = "error: $@";
    print length($answer), "\n", $answer;
}
