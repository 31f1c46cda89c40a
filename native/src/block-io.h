#ifndef UMBRA_BLOCK_IO_H
#define UMBRA_BLOCK_IO_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The number of bytes read (less than `length` only at the end of the file), or a negated errno.
int64_t read_fully(int fd, uint8_t *target, size_t length, int64_t offset);
bool block_io_register(napi_env env, napi_value exports);

#endif
