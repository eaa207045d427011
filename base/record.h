// SPDX-License-Identifier: LGPL-2.1-or-later
// A durable record: one preallocated file of fixed slots, so that an update costs one fdatasync.
#pragma once

#include <glib.h>

// Theory of operation: updates go to the slots in turn, each slot bearing a rising sequence number and a
// CRC-32. Opening takes the valid slot with the highest number; a torn write loses only itself. (An atomic
// replace costs about four times as much, and this one happens while the guest is paused.)
#define RECORD_SLOTS   8u
#define RECORD_SLOT    4096u
#define RECORD_PAYLOAD (RECORD_SLOT - 24u)

typedef struct Record Record;

// Creates the file with all its blocks written and synced, and its directory synced. Fails if it exists.
Record *record_create(const char *path, GError **error);

// Opens an existing record. A file that is all zero (its creator died before the first update) opens with an
// empty payload. A file of the wrong size, or one that holds data but no valid slot, is
// VIR_ERR_INTERNAL_ERROR; a slot that cannot be read is VIR_ERR_SYSTEM_ERROR.
Record *record_open(const char *path, GError **error);

// Closes the file; the record stays on disk.
void record_free(Record *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Record, record_free)

// Writes the payload (RECORD_PAYLOAD bytes at most) and returns when it is on disk.
gboolean record_update(Record *record, const void *payload, gsize length, GError **error);

// The payload as last written or read; borrowed until the next update.
const void *record_payload(const Record *record, gsize *length);

// Whether the record has never been updated.
gboolean record_is_new(const Record *record);

const char *record_path(const Record *record);
