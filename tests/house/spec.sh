#!/usr/bin/env bash
# tests/house/spec.sh [ROOT] - which test proves which sentence of the specification.
#
# A comment right above a test names the sentences it proves, word for word:
#
#     /* spec 2.4: Signals that come before the wait are kept. */
#
# It may hold several sentences and may wrap; what stands between the semicolons of a long
# sentence may stand for it. tests/spec/*.txt hold all sentences, one a line
# behind the number of their section. docs/spec-tests.md is written from both:
# EXJ_DOCS_ACCEPT=1 writes it, otherwise it is compared. Fails when a comment names a sentence
# that is not in the lists, or when the page is stale.
#
# EVERY_SENTENCE=0: a sentence that no test names is listed and does not fail.
set -uo pipefail
EVERY_SENTENCE=${EVERY_SENTENCE:-1}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 2
page=docs/spec-tests.md
export LC_ALL=C EVERY_SENTENCE

# map ROOT OUT: writes the page to OUT, complaints to the terminal.
map() {
  perl - "$1" "$2" <<'PERL'
use strict;
use warnings;

my ($root, $out) = @ARGV;
my (%known, @order, %tests, $bad);

# Quotes and line ends do not count.
sub plain {
    my $s = shift;
    $s =~ s/[`*]//g;
    $s =~ s/\s+/ /g;
    $s =~ s/\A | \z//g;
    return $s;
}

for my $list (sort glob "$root/tests/spec/*.txt") {
    open my $in, '<', $list or die "spec: $list: $!\n";
    while (<$in>) {
        chomp;
        next if /\A#/ || !/\S/;
        /\A(\d+\.\d+) (.+)\z/ or die "spec: $list:$.: no section in front of: $_\n";
        push @order, [$1, $2];
        my ($section, $sentence) = ($1, plain($2));
        $known{$section}{$sentence} = $sentence;
        # A part of a long sentence may stand for it: what is between its semicolons.
        for my $part (split /; /, $sentence) {
            $part =~ s/\.\z//;
            $known{$section}{$part} //= $sentence if length $part > 15;
        }
    }
}
@order or die "spec: no sentences below $root/tests/spec\n";

sub name_after {
    my $code = shift;
    1 while $code =~ s{\A\s*(/\*.*?\*/|//[^\n]*\n|\#(?!\s*(include|define))[^\n]*\n)}{}s;
    return "$1/$2" if $code =~ /\A\s*(?:Test|CONTRACT|ParameterizedTest)\(\s*(\w+)\s*,\s*(\w+)/;
    return $1 if $code =~ /\A\s*(?:static\s+|inline\s+|struct\s+|const\s+)*\w+[\s*]+(\w+)\([^;]*?\)\s*\{/;
    return $1 if $code =~ /\A\s*(\w+)\(\)\s*\{/;
    return '';
}

# One comment: each "spec N.M:" in it begins a run of sentences.
sub read_comment {
    my ($file, $line, $text, $after) = @_;
    my @parts = split /spec (\d+\.\d+): /, $text;
    shift @parts;
    while (my ($section, $said) = splice @parts, 0, 2) {
        my ($rest, $found) = (plain($said // ''), 0);
        next if !$known{$section} && !grep { (split /\./, $_->[0])[0] eq (split /\./, $section)[0] } @order;
        again: for my $s (sort { length $b <=> length $a } keys %{ $known{$section} }) {
            if (index($rest, $s) == 0) {
                my $name = name_after($after);
                push @{ $tests{$section}{ $known{$section}{$s} } }, $name ? "`$name` ($file)" : $file;
                $rest = substr $rest, length $s;
                $rest =~ s/\A[.;]?\s*//;
                $found++;
                goto again;
            }
        }
        next if $found;
        my $first = $rest =~ /\A(.{1,90})/ ? $1 : '';
        print "$file:$line: no sentence of spec $section: \"$first\"\n";
        my ($near) = grep { index($_, substr($first, 0, 12)) == 0 } keys %{ $known{$section} };
        print "    did you mean: $near\n" if $near;
        $bad++;
    }
}

my @files = sort split /\0/, `cd '$root' && find tests \\( -name '*.c' -o -name '*.sh' \\) -type f -print0`;
for my $file (@files) {
    next if $file eq 'tests/house/spec.sh';
    open my $in, '<', "$root/$file" or die "spec: $file: $!\n";
    my $all = do { local $/; <$in> };
    next unless $all =~ /spec \d+\.\d+: /;
    my $comment = $file =~ /\.c\z/ ? qr{/\*.*?\*/}s : qr{(?:^[ \t]*\#[^\n]*\n)+}m;
    while ($all =~ /$comment/g) {
        my ($text, $at, $end) = ($&, $-[0], $+[0]);
        next unless $text =~ /spec \d+\.\d+: /;
        my $line = 1 + (substr($all, 0, $at) =~ tr/\n//);
        $text =~ s{\A/\*|\*/\z}{}g if $file =~ /\.c\z/;
        $text =~ s{^[ \t]*[*\#] ?}{}gm;
        read_comment($file, $line, $text, substr $all, $end, 2000);
    }
}

my ($page, $section, @open) = ('', '');
for (@order) {
    my ($at, $sentence) = @$_;
    my $by = $tests{$at}{ plain($sentence) };
    if (!$by) {
        push @open, "- $at $sentence";
        next;
    }
    $page .= "\n## $at\n" if $at ne $section;
    $section = $at;
    my %seen;
    $page .= "\n$sentence\n\n" . join '', map { "- $_\n" } grep { !$seen{$_}++ } @$by;
}
open my $o, '>', $out or die "spec: $out: $!\n";
print $o "# Which test proves which sentence\n\n",
    "Written by `tests/house/spec.sh` from `tests/spec/*.txt` and from the comments above the tests\n",
    "(`spec 2.4: ...`); `EXJ_DOCS_ACCEPT=1 bash tests/house/spec.sh` writes it anew.\n", $page;
print $o "\n## No test names these yet\n\n", map { "$_\n" } @open if @open;
close $o or die "spec: $out: $!\n";

printf "spec: %d sentences, %d without a test\n", scalar @order, scalar @open;
print map { "  $_\n" } @open;
exit 1 if $bad || (@open && $ENV{EVERY_SENTENCE});
PERL
}

tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT

# Can it fail? A tree with one true and one false comment, and one with a wrapped one.
self() {
  mkdir -p "$tmp/t/tests/spec" "$tmp/t/tests/a" || return 1
  printf '%s\n' '2.4 It holds no slot.' '2.4 It `waits` for good; nobody else does.' >"$tmp/t/tests/spec/x.txt"
  printf '%s\n' '/* spec 2.4: It holds' ' * no slot. nobody else does. */' 'Test(a, b)' '{' '}' >"$tmp/t/tests/a/t.c"
  out=$(EVERY_SENTENCE=1 map "$tmp/t" "$tmp/page") || { echo "spec: true comments were refused: $out"; return 1; }
  [ "$(grep -c '^- `a/b` (tests/a/t.c)$' "$tmp/page")" = 2 ] || { echo "spec: a test was not found"; return 1; }
  printf '%s\n' '/* spec 2.4: It holds a slot. */' 'Test(a, c)' '{' '}' >"$tmp/t/tests/a/u.c"
  EVERY_SENTENCE=0 map "$tmp/t" "$tmp/page" >/dev/null && { echo "spec: a false comment was not noticed"; return 1; }
  rm "$tmp/t/tests/a/"*
  EVERY_SENTENCE=1 map "$tmp/t" "$tmp/page" >/dev/null && { echo "spec: a sentence without a test was not noticed"; return 1; }
  return 0
}
self || exit 1

cd "${1:-$here/../..}" || exit 2
rc=0
map . "$tmp/page" || rc=1
if [ -n "${EXJ_DOCS_ACCEPT:-}" ]; then
  cp "$tmp/page" "$page" || exit 2
elif ! cmp -s "$tmp/page" "$page"; then
  echo "spec: $page is stale: EXJ_DOCS_ACCEPT=1 bash tests/house/spec.sh writes it"
  diff "$page" "$tmp/page" 2>/dev/null | head -n 20
  rc=1
fi
exit $rc
