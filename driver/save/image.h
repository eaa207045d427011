// SPDX-License-Identifier: LGPL-2.1-or-later
// What a file with a saved guest says of it: the head at its beginning, and the description.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "emulator/traits.h"

// Theory of operation. A file is a head of SAVE_HEAD bytes, the description (one JSON object) right behind
// it, zeros up to the stream, and the emulator's migration stream up to the file's end. All numbers of the
// head are big-endian:
//
//    0  16  "QuasarSavedGuest"
//   16   4  version of this layout, 1
//   20   4  length of the description
//   24   8  where the stream begins, a multiple of SAVE_ALIGNMENT
//   32   8  length of the stream; 0: it was not finished
//   40  32  SHA-256 of the description
//
// What comes from a file is not trusted: the decoders here are fuzzed, and the XML is validated as any
// user's.
#define SAVE_HEAD        72u
#define SAVE_ALIGNMENT   4096u
#define SAVE_DESCRIPTION (16u << 20) // the longest
#define SAVE_SHA256      32u

typedef struct {
    guint32 description_length;
    guint64 stream_offset, stream_length;
    guint8 sha256[SAVE_SHA256];
} SaveHead;

void save_head_encode(const SaveHead *head, guint8 bytes[SAVE_HEAD]);

// VIR_ERR_OPERATION_FAILED: it is none of ours, of another version, unfinished, or damaged. Whether the file
// is as long as it says is the caller's to check.
gboolean save_head_decode(const void *bytes, gsize length, SaveHead *head, GError **error);

// What the image of a disk that the guest writes to was when the guest was saved: with another one, the
// guest's memory would damage it.
typedef struct {
    char *target; // vda
    char *path;
    guint64 size; // of the file, bytes
    gint64 changed_s, changed_ns;
} SaveDisk;

void save_disk_free(SaveDisk *disk);

typedef struct {
    char *id;   // of this save, random
    char *uuid; // lower-case text
    char *name;
    char *host;             // where it was saved
    char *xml;              // the guest as it was: for another host, with secrets
    gint64 saved_at;        // wall clock, s
    gboolean paused;        // it shall not run when it is restored
    EmulatorTraits *traits; // of the emulator that wrote the stream
    GPtrArray *disks;       // SaveDisk*
    json_t *anchors;        // array: NICs whose segment is elsewhere (driver/migration/anchor_record.h)
} SaveImage;

// With a fresh id, and nothing else.
SaveImage *save_image_new(void);
void save_image_free(SaveImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SaveImage, save_image_free)

// VIR_ERR_OPERATION_FAILED: it would be too long.
GBytes *save_image_encode(const SaveImage *image, GError **error);
// VIR_ERR_OPERATION_FAILED: it is damaged, or of a later version.
SaveImage *save_image_decode(const void *description, gsize length, GError **error);
