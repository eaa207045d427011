// SPDX-License-Identifier: LGPL-2.1-or-later
// The cookies that libvirt's clients carry between the two halves of a migration.
#pragma once

#include <glib.h>

#include "driver/migration/peer.h"
#include "emulator/traits.h"

// One disk that travels: what the source says of it (Begin), and what the destination answers (Prepare).
typedef struct {
    char *target; // vda
    char *path;   // where it is, and will be
    char *format;
    guint64 virtual_size; // bytes
    char *backing_path;   // NULL: no backing file
    char *backing_format;
    char *backing_sha256; // of the backing file's bytes
    gboolean full; // answer: the destination lacks the backing file's content, so all of it must travel
} CookieDisk;

void cookie_disk_free(CookieDisk *disk);

// A cookie is one JSON object. Begin's has `disks`, `emulator_version`, `machine` and `traits`; Prepare's
// adds token and peer.
typedef struct {
    char *uuid;
    char *name;
    char *hostname;         // of the side that made the cookie
    char *machine;          // canonical machine type
    int emulator_version;   // major * 1000000 + minor * 1000 + micro
    GPtrArray *disks;       // CookieDisk*
    EmulatorTraits *traits; // Begin: of the emulator that runs the guest; NULL: not told
    gboolean paused;        // Begin: its vCPUs stand
    char *token;            // Prepare
    PeerAddress *peer;      // where the side that made the cookie listens; NULL: no certificates there
    PeerAddress *way;       // of those addresses, the ones that this move shall take; NULL: any
} Cookie;

Cookie *cookie_new(void);
void cookie_free(Cookie *cookie);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Cookie, cookie_free)

GBytes *cookie_encode(const Cookie *cookie);

// VIR_ERR_INTERNAL_ERROR for a cookie that is not ours or not whole: the other side is no virtquasard, or of
// another version.
Cookie *cookie_decode(GBytes *bytes, GError **error);
