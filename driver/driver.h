// SPDX-License-Identifier: LGPL-2.1-or-later
// The state that all of virtquasard shares: configuration, contexts, domains, networks, events, credentials.
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "base/tls.h"

typedef struct Domain Domain;
typedef struct DomainList DomainList;
typedef struct EventBus EventBus;
typedef struct NetworkList NetworkList; // driver/networks.h
typedef struct Config Config;           // driver/config.h
typedef struct ImageLedger ImageLedger; // driver/process_images.h

// One per process, made by main() before any thread of ours runs and never freed while they run. Fields are
// set once, in this order: directories and user, contexts, events, domains (driver_init does these three),
// networks, credentials; afterwards they are read without a lock. What they point to has its own locks.
typedef struct Driver {
    char *definition_dir; // SYSCONFDIR/libvirt/quasar
    char *autostart_dir;  // definition_dir/autostart
    char *run_dir;        // /run/libvirt/quasar: status files, per-guest directories
    char *state_dir;      // LOCALSTATEDIR/lib/libvirt/quasar
    char *log_dir;        // LOCALSTATEDIR/log/libvirt/quasar
    char *cache_dir;      // LOCALSTATEDIR/cache/libvirt/quasar: what can be found out again
    int lock_fd;          // run_dir/driver.pid, locked: one daemon for these directories; -1: none

    uid_t emulator_uid;         // whom QEMU runs as
    gid_t emulator_gid;         //
    char *emulator_user;        // its name, NULL: run as ourselves (tests)
    gboolean dynamic_ownership; // image files are given to the emulator's user while in use
    gboolean pcap;              // quasar-vnet captures by libpcap, not by Linux' packet sockets

    GMainContext *main;     // RPC I/O; never blocks
    GMainContext *emulator; // QMP sockets and pidfds; run by emulator_thread
    GThread *emulator_thread;
    GMainLoop *emulator_loop;
    GThreadPool *workers; // what an event handler may not do itself (driver_defer)

    EventBus *events;
    DomainList *domains;
    ImageLedger *images;
    NetworkList *networks;
    TlsCredentials *credentials; // what we show as a server; NULL: no certificates, no TLS
    TlsCredentials
        *client_credentials; // what we show to the hosts that we connect to; NULL: no migration from here
    guint16 tls_port;        // where we listen for clients and other hosts, if we have credentials
    Config *config;
} Driver;

// A driver with the standard directories, each under `prefix` when that is not NULL (tests). The user is
// not looked up: emulator_user is NULL, uid and gid are ours.
Driver *driver_new(const char *prefix);

// Takes QEMU's user and group by name; VIR_ERR_CONFIG_UNSUPPORTED names the one that does not exist.
gboolean driver_set_user(Driver *driver, const char *user, const char *group, GError **error);

// Creates the directories, the event bus, the domain list and the deferred workers, and starts the emulator
// thread. `main` may be NULL (the default context). VIR_ERR_OPERATION_FAILED when another daemon uses these
// directories, naming it.
gboolean driver_init(Driver *driver, GMainContext *main, GError **error);

// Stops the threads and frees all; guests run on.
void driver_free(Driver *driver);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Driver, driver_free)

// Runs `work` on a thread that may block, soon or after a time; any thread. free_data may be NULL.
typedef void (*DriverWork)(Driver *driver, gpointer data);
void driver_defer(Driver *driver, DriverWork work, gpointer data, GDestroyNotify free_data);
void driver_defer_later(Driver *driver, guint wait_ms, DriverWork work, gpointer data,
                        GDestroyNotify free_data);

// TRUE once for each boot of the host: then guests with an autostart link are to be started.
gboolean driver_should_autostart(Driver *driver);

static inline EventBus *
driver_events(Driver *driver)
{
    return driver->events;
}

static inline DomainList *
driver_domains(Driver *driver)
{
    return driver->domains;
}

static inline NetworkList *
driver_networks(Driver *driver)
{
    return driver->networks;
}
