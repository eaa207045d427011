// SPDX-License-Identifier: LGPL-2.1-or-later
// quasar-vnet's command line.
#pragma once

#include <glib.h>

#include "vnet/capture.h"
#include "vnet/packet.h"

typedef struct {
    char *nic;
    char *stream_path; // this or
    char *vhost_path;  // this or
    gboolean anchor;   // none: the guest is away
    gboolean offload;
    gint emulator; // its process, when it runs already; 0: it does not
    char *control_path;
    char *user;
    char *name;
    char *mac_text;
    MacAddress mac;
    CaptureKind capture;
    int ready_fd; // -1, or where "ok" or the reason of failure is written once
} Options;

gboolean options_parse(Options *options, int argc, char **argv, GError **error);
void options_clear(Options *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)
