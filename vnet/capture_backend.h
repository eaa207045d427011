// SPDX-License-Identifier: LGPL-2.1-or-later
// What a way to capture provides, and what all of them share.
#pragma once

#include <net/if.h>

#include "vnet/capture.h"

#define CAPTURE_SEND_BUFFER (4 << 20)

typedef struct {
    gboolean takes_offload;
    // Opens on capture->nic and sets capture->fd and capture->state.
    gboolean (*open)(Capture *capture, const MacAddress *mac, GError **error);
    void (*close)(Capture *capture);
    // FALSE with a text: the NIC showed an error.
    gboolean (*read)(Capture *capture, guint limit, CaptureFrame frame, void *data, char **problem);
    CaptureSend (*send)(Capture *capture, const Offload *offload, const struct iovec *parts, guint n);
    void (*stats)(Capture *capture, CaptureStats *stats);
} CaptureBackend;

extern const CaptureBackend capture_packet, capture_pcap;

struct Capture {
    const CaptureBackend *backend;
    void *state; // the backend's
    int probe;   // any socket: takes the ioctls that ask for the NIC's state
    int fd;
    int marks; // a socket that sends only, so that the capture sees what it sends
    guint mtu;
    int index;
    guint down; // calls of capture_alive() in a row that found it down
    char nic[IFNAMSIZ];
};

// Says that this process may not capture; FALSE.
gboolean capture_refuse(const Capture *capture, GError **error);

// Makes a socket's buffer large, beyond the system's limit when we may.
void capture_buffer(int fd, int force, int option, int size);
