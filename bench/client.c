/*
 * The bench's client: one process, plain system calls, so that what is measured is the file system
 * and not the language of the bench. Prints one number: seconds. Built by bench/run.ts with cc.
 *
 *   client seqwrite FILE MIB | seqread FILE MIB | randread FILE MIB COUNT | randwrite FILE MIB COUNT
 *   client randruns FILE MIB COUNT   (writes of 64 KiB)
 *   client directread FILE MIB COUNT | directwrite FILE MIB COUNT | append FILE COUNT
 *   client create DIR COUNT | stat DIR COUNT | list DIR | unlink DIR COUNT
 *   client deep DIR COUNT            (directories in one another, a file in each)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const size_t MIB = 1 << 20, PAGE = 4096;
static char *buffer;

static void die(const char *what)
{
	fprintf(stderr, "client: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* xorshift: every run makes the same accesses */
static uint64_t state = 88172645463325252ULL;
static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags, 0644);
	if (fd < 0) die(path);
	return fd;
}

static double sequential(const char *path, long mib, int writing)
{
	int fd = open_or_die(path, writing ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY);
	if (!writing && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) die("fadvise");
	double start = now();
	for (long i = 0; i < mib; i++) {
		ssize_t n = writing ? write(fd, buffer, MIB) : read(fd, buffer, MIB);
		if (n != (ssize_t)MIB) die("sequential");
	}
	if (writing && fsync(fd)) die("fsync");
	close(fd);
	return now() - start;
}

static double random_access(const char *path, long mib, long count, int writing, int direct, size_t length)
{
	int fd = open_or_die(path, (writing ? O_RDWR : O_RDONLY) | (direct ? O_DIRECT : 0));
	if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) die("fadvise");
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	long places = mib * MIB / length;
	double start = now();
	for (long i = 0; i < count; i++) {
		off_t at = (off_t)(next_random() % places) * length;
		ssize_t n = writing ? pwrite(fd, buffer, length, at) : pread(fd, buffer, length, at);
		if (n != (ssize_t)length) die("random");
	}
	if (writing && fsync(fd)) die("fsync");
	close(fd);
	return now() - start;
}

static double append(const char *path, long count)
{
	int fd = open_or_die(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
	double start = now();
	for (long i = 0; i < count; i++)
		if (write(fd, buffer, PAGE) != (ssize_t)PAGE || fsync(fd)) die("append");
	double seconds = now() - start;
	close(fd);
	return seconds;
}

static double names(const char *operation, const char *dir, long count)
{
	char path[4096];
	struct stat st;
	double start = now();
	for (long i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/file-%06ld", dir, i);
		if (!strcmp(operation, "create"))
			close(open_or_die(path, O_WRONLY | O_CREAT | O_EXCL));
		else if (!strcmp(operation, "create4k")) {
			int fd = open_or_die(path, O_WRONLY | O_CREAT | O_EXCL);
			if (write(fd, buffer, PAGE) != (ssize_t)PAGE) die(path);
			close(fd);
		} else if (!strcmp(operation, "stat") ? stat(path, &st) : unlink(path))
			die(path);
	}
	return now() - start;
}

static double deep(const char *dir, long count)
{
	double start = now();
	if (chdir(dir)) die(dir);
	for (long i = 0; i < count; i++) {
		close(open_or_die("file", O_WRONLY | O_CREAT | O_EXCL));
		if (mkdir("d", 0755) || chdir("d")) die("deep");
	}
	return now() - start;
}

static double list(const char *dir)
{
	double start = now();
	struct dirent *entry;
	struct stat st;
	DIR *d = opendir(dir);
	if (!d) die(dir);
	while ((entry = readdir(d)))
		if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) die(entry->d_name);
	closedir(d);
	return now() - start;
}

int main(int argc, char **argv)
{
	if (argc < 3) return 2;
	if (posix_memalign((void **)&buffer, PAGE, MIB)) die("memory");
	for (size_t i = 0; i < MIB; i++) buffer[i] = (char)(i * 2654435761u >> 13);
	const char *operation = argv[1], *path = argv[2];
	long a = argc > 3 ? atol(argv[3]) : 0, b = argc > 4 ? atol(argv[4]) : 0;
	double seconds;
	if (!strcmp(operation, "seqwrite")) seconds = sequential(path, a, 1);
	else if (!strcmp(operation, "seqread")) seconds = sequential(path, a, 0);
	else if (!strcmp(operation, "randread")) seconds = random_access(path, a, b, 0, 0, PAGE);
	else if (!strcmp(operation, "randwrite")) seconds = random_access(path, a, b, 1, 0, PAGE);
	else if (!strcmp(operation, "randruns")) seconds = random_access(path, a, b, 1, 0, 16 * PAGE);
	else if (!strcmp(operation, "directread")) seconds = random_access(path, a, b, 0, 1, PAGE);
	else if (!strcmp(operation, "directwrite")) seconds = random_access(path, a, b, 1, 1, PAGE);
	else if (!strcmp(operation, "append")) seconds = append(path, a);
	else if (!strcmp(operation, "list")) seconds = list(path);
	else if (!strcmp(operation, "deep")) seconds = deep(path, a);
	else seconds = names(operation, path, a);
	printf("%.9f\n", seconds);
	return 0;
}
