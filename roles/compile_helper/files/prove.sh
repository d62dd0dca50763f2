#!/bin/sh
# prove.sh HOST GCC GXX
# Compiles a C and a C++ file twice, here and on HOST (written as in DISTCC_HOSTS), and compares all bytes.
set -eu
host=$1 gcc=$2 gxx=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
export DISTCC_HOSTS="$host" DISTCC_DIR="$tmp" DISTCC_LOG="$tmp/log" DISTCC_VERBOSE=1
# Never here instead.
export DISTCC_FALLBACK=0

cat >proof.c <<'C'
#include <math.h>
#include <stdio.h>
static double mean(const double *values, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += sqrt(fabs(values[i]));
    return count ? sum / count : NAN;
}
int show(FILE *file, const double *values, int count)
{
    return fprintf(file, "%s: %.17g\n", __FILE__, mean(values, count));
}
C
cat >proof.cc <<'CXX'
#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>
namespace {
struct Counter {
    std::map<std::string, int> seen;
    int add(const std::string &word) { return ++seen[word]; }
};
}
int most(const std::vector<std::string> &words)
{
    Counter counter;
    int best = 0;
    for (const auto &word : words)
        best = std::max(best, counter.add(word));
    if (best == 0)
        throw std::invalid_argument("no words");
    return best;
}
CXX

same() {
    "$@" -o here.o
    distcc "$@" -o there.o 2>errors || {
        cat errors >&2
        echo "$host does not compile for this machine; distcc says:" >&2
        grep -iE 'error|warning|critical' log | tail -n 5 >&2
        exit 1
    }
    cmp here.o there.o || {
        echo "$host makes other bytes: $*" >&2
        exit 1
    }
}

# Code and data.
same "$gcc" -O2 -g0 -fPIC -Wall -c proof.c
same "$gxx" -O2 -g0 -fPIC -Wall -c proof.cc
# Debug information, too. Its lines and columns are those of preprocessed source, which a helper gets;
# -no-integrated-cpp makes them so here.
same "$gcc" -O2 -g -no-integrated-cpp -fPIC -Wall -c proof.c
same "$gxx" -O2 -g -no-integrated-cpp -fPIC -Wall -c proof.cc
