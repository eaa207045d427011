// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames that a move's destination gets both ways, from its NIC and by the tunnel: each is given once.
#pragma once

#include <glib.h>

// Theory of operation. While a guest moves on one segment both hosts see each frame for a group, and the
// source passes on what it sees. Either copy may be the first: a frame waits in the capture's socket while
// its twin is read from the tunnel, and the other way round. So each copy whose twin has not come is
// remembered, with what was done with it, and the twin is judged by that. Frames with the same bytes are
// paired in their order, so a frame that was sent twice is given twice. What has no twin (the source had
// given it to the guest before, or has stopped passing groups on) is forgotten after TWINS_US: it must not be
// taken for the twin of a repetition.
#define TWINS_US  (500 * 1000)
#define TWINS_MAX 4096u // that are remembered; the oldest give way

typedef struct Twins Twins;

Twins *twins_new(void);
void twins_free(Twins *twins);

// A frame of the NIC's, which is to be given to the guest or not. TRUE: it has been given, by its twin; leave
// it out. `now`: monotonic, us, as in the other.
gboolean twins_captured(Twins *twins, const guint8 *frame, gsize length, gboolean given, gint64 now);

// A frame of the tunnel's, which is to be given. TRUE: as above.
gboolean twins_received(Twins *twins, const guint8 *frame, gsize length, gint64 now);
