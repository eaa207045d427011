// SPDX-License-Identifier: LGPL-2.1-or-later
// Durable records in preallocated slots.
#include "base/record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"

// A slot, all numbers big-endian: magic (8), sequence (8), payload length (4), CRC-32 of sequence, length and
// payload (4), payload.
#define MAGIC       "QSRREC1\n"
#define OFF_SEQ     8
#define OFF_LENGTH  16
#define OFF_CRC     20
#define OFF_PAYLOAD 24

struct Record {
    char *path;
    int fd;
    guint64 sequence;
    gsize length;
    guint8 payload[RECORD_PAYLOAD];
};

static guint32
slot_crc(const guint8 *slot, gsize length)
{
    uLong crc = crc32(0, slot + OFF_SEQ, OFF_CRC - OFF_SEQ);
    return (guint32) crc32(crc, slot + OFF_PAYLOAD, (uInt) length);
}

static void
slot_encode(guint8 *slot, guint64 sequence, const void *payload, gsize length)
{
    memset(slot, 0, RECORD_SLOT);
    memcpy(slot, MAGIC, 8);
    guint64 seq = GUINT64_TO_BE(sequence);
    guint32 len = GUINT32_TO_BE((guint32) length);
    memcpy(slot + OFF_SEQ, &seq, 8);
    memcpy(slot + OFF_LENGTH, &len, 4);
    memcpy(slot + OFF_PAYLOAD, payload, length);
    guint32 crc = GUINT32_TO_BE(slot_crc(slot, length));
    memcpy(slot + OFF_CRC, &crc, 4);
}

// Takes the slot over if it is valid and newer than what the record holds.
static void
slot_decode(Record *record, const guint8 *slot)
{
    guint64 seq;
    guint32 len, crc;
    memcpy(&seq, slot + OFF_SEQ, 8);
    memcpy(&len, slot + OFF_LENGTH, 4);
    memcpy(&crc, slot + OFF_CRC, 4);
    seq = GUINT64_FROM_BE(seq);
    len = GUINT32_FROM_BE(len);
    if (memcmp(slot, MAGIC, 8) != 0 || len > RECORD_PAYLOAD || GUINT32_FROM_BE(crc) != slot_crc(slot, len))
        return;
    if (seq <= record->sequence)
        return;
    record->sequence = seq;
    record->length = len;
    memcpy(record->payload, slot + OFF_PAYLOAD, len);
}

static gboolean
slot_blank(const guint8 *slot)
{
    return slot[0] == 0 && memcmp(slot, slot + 1, RECORD_SLOT - 1) == 0;
}

static Record *
record_new(const char *path, int fd)
{
    Record *record = g_new0(Record, 1);
    record->path = g_strdup(path);
    record->fd = fd;
    return record;
}

void
record_free(Record *record)
{
    if (!record)
        return;
    if (record->fd >= 0)
        close(record->fd);
    g_free(record->path);
    g_free(record);
}

Record *
record_create(const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot create %s", path);
        return NULL;
    }
    g_autoptr(Record) record = record_new(path, fd);
    // Written, not fallocated: the first write to an unwritten extent would cost a journal commit in the
    // pause.
    g_autofree guint8 *empty = g_malloc0(RECORD_SLOTS * RECORD_SLOT);
    if (!file_write_all(fd, empty, RECORD_SLOTS * RECORD_SLOT, error)) {
        g_prefix_error(error, "%s: ", path);
        unlink(path);
        return NULL;
    }
    if (fsync(fd) < 0) {
        quasar_set_system_error(error, errno, "cannot sync %s", path);
        unlink(path);
        return NULL;
    }
    if (!file_sync_directory(path, error)) {
        unlink(path);
        return NULL;
    }
    return g_steal_pointer(&record);
}

Record *
record_open(const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot open %s", path);
        return NULL;
    }
    g_autoptr(Record) record = record_new(path, fd);
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size != RECORD_SLOTS * RECORD_SLOT) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s is not a record of ours: wrong size", path);
        return NULL;
    }
    gboolean blank = TRUE;
    for (guint i = 0; i < RECORD_SLOTS; i++) {
        guint8 slot[RECORD_SLOT];
        // A slot that cannot be read may be the newest: the others must not speak for it.
        if (pread(fd, slot, sizeof(slot), (off_t) i * RECORD_SLOT) != (ssize_t) sizeof(slot)) {
            quasar_set_system_error(error, errno, "cannot read %s", path);
            return NULL;
        }
        slot_decode(record, slot);
        blank = blank && slot_blank(slot);
    }
    if (record_is_new(record) && !blank) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s is damaged: it holds data but no valid slot",
                         path);
        return NULL;
    }
    return g_steal_pointer(&record);
}

gboolean
record_update(Record *record, const void *payload, gsize length, GError **error)
{
    if (length > RECORD_PAYLOAD) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "record of %zu bytes, limit is %u", length,
                         RECORD_PAYLOAD);
        return FALSE;
    }
    guint8 slot[RECORD_SLOT];
    guint64 sequence = record->sequence + 1;
    slot_encode(slot, sequence, payload, length);
    off_t offset = (off_t) (sequence % RECORD_SLOTS) * RECORD_SLOT;
    if (pwrite(record->fd, slot, sizeof(slot), offset) != (ssize_t) sizeof(slot) ||
        fdatasync(record->fd) < 0) {
        quasar_set_system_error(error, errno, "cannot write %s", record->path);
        return FALSE;
    }
    record->sequence = sequence;
    record->length = length;
    memmove(record->payload, payload, length);
    return TRUE;
}

const void *
record_payload(const Record *record, gsize *length)
{
    *length = record->length;
    return record->payload;
}

gboolean
record_is_new(const Record *record)
{
    return record->sequence == 0;
}

const char *
record_path(const Record *record)
{
    return record->path;
}
