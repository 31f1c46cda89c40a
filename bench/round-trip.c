/*
 * One request after another on a FUSE mount: prints microseconds for getattr, for a direct read and
 * a direct write of 4 KiB, and for a direct read of 1 MiB. Built by bench/round-trip.bench.ts.
 *
 *   round-trip FILE COUNT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const long PAGE = 4096, MIB = 1 << 20;
static char *buffer;

static void die(const char *what)
{
	fprintf(stderr, "round-trip: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static double getattrs(int fd, long count)
{
	struct stat info;
	double start = now_us();
	for (long i = 0; i < count; i++)
		if (fstat(fd, &info) != 0) die("fstat");
	return (now_us() - start) / count;
}

static double transfers(int fd, int writing, long size, long count)
{
	double start = now_us();
	for (long i = 0; i < count; i++) {
		off_t at = i % (4 * MIB / size) * size;
		ssize_t n = writing ? pwrite(fd, buffer, size, at) : pread(fd, buffer, size, at);
		if (n != size) die(writing ? "pwrite" : "pread");
	}
	return (now_us() - start) / count;
}

int main(int argc, char **argv)
{
	long count = argc > 2 ? atol(argv[2]) : 8000;
	if (argc < 2 || count < 20) return 2;
	if (posix_memalign((void **)&buffer, PAGE, MIB) != 0) die("memory");
	memset(buffer, 1, MIB);
	int fd = open(argv[1], O_RDWR | O_CREAT, 0644);
	int direct = open(argv[1], O_RDWR | O_DIRECT);
	if (fd < 0 || direct < 0) die("open");
	transfers(direct, 1, MIB, 4);
	double attr = getattrs(fd, count), read4 = transfers(direct, 0, PAGE, count);
	double write4 = transfers(direct, 1, PAGE, count), read1m = transfers(direct, 0, MIB, count / 20);
	printf("%.2f %.2f %.2f %.2f\n", attr, read4, write4, read1m);
	return 0;
}
