{
  'targets': [
    {
      'target_name': 'umbra',
      'sources': [
        'src/addon.c',
        'src/arguments.c',
        'src/attributes.c',
        'src/block-io.c',
        'src/clock.c',
        'src/crc32c.c',
        'src/fuse-channel.c',
        'src/later.c',
        'src/mount.c',
        'src/sockets.c',
      ],
      'defines': ['NAPI_VERSION=8', '_GNU_SOURCE', '_FILE_OFFSET_BITS=64'],
      'cflags': ['-std=c11', '-Wall', '-Wextra', '-Werror', '-O2', '-fvisibility=hidden'],
      'cflags!': ['-O3'],
    },
  ],
}
