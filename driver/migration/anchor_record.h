// SPDX-License-Identifier: LGPL-2.1-or-later
// What is remembered of a guest's NIC whose segment is not where the guest runs: one record at each end.
#pragma once

#include "driver/migration/peer.h"

typedef enum {
    ANCHOR_HOME, // the guest's segment is this host's
    ANCHOR_AWAY, // the guest is on this host, or about to come
    ANCHOR_ROLES,
} AnchorRole;

typedef enum {
    ANCHOR_OFFERED,  // a move is under way after which it will stand, if it succeeds
    ANCHOR_STANDING, //
    ANCHOR_ENDING,   // away: the guest has ended, or is at home; its home has not confirmed yet
    ANCHOR_SAVED,    // away: the guest was saved here, and is to be away again when it is restored
    ANCHOR_STATES,
} AnchorState;

// Stands as STATE_DIR/anchors/UUID-NUMBER.ROLE.
typedef struct {
    AnchorRole role;
    AnchorState state;
    char *uuid; // the guest's, lower-case text
    char *name; // the guest's
    guint nic;  // its number
    char *mac;
    char *device;      // home: the host's NIC
    char *link;        // what both ends call the link: 128 random bits in hex
    guint64 turn;      // rises with each move of the guest's while the link stands
    char *host;        // the other end's name
    PeerAddress *peer; // ... and where it listens
} AnchorRecord;

// A fresh link; the caller frees it.
char *anchor_link_new(void);

void anchor_record_free(AnchorRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AnchorRecord, anchor_record_free)
AnchorRecord *anchor_record_copy(const AnchorRecord *record);

json_t *anchor_record_encode(const AnchorRecord *record);
AnchorRecord *anchor_record_decode(json_t *object);

// On the disk when it returns; several ms.
gboolean anchor_record_store(const char *state_dir, const AnchorRecord *record, GError **error);
void anchor_record_remove(const char *state_dir, const AnchorRecord *record);

// Those of this role, of one guest (UUID text) or of all (NULL). What cannot be read is logged and left.
GPtrArray *anchor_record_scan(const char *state_dir, AnchorRole role, const char *uuid);
