// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest's processes: start, find again, end.
#include "driver/process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/networks.h"
#include "driver/store.h"
#include "emulator/command.h"
#include "emulator/image.h"
#include "emulator/launch.h"
#include "emulator/monitor.h"
#include "emulator/probe.h"

#define DEFAULT_EMULATOR "/usr/bin/qemu-system-x86_64"
#define CONNECT_MS       30000
#define RECONNECT_MS     5000
#define TERM_GRACE_MS    3000
#define GRACEFUL_MS      10000
#define LOG_TAIL         1024

// One run of a domain, as its watch sees it: freed by the worker that handles the end.
typedef struct {
    Domain *domain;
    guint64 generation;
    EmulatorWatch *watch;
} Run;

// What a start has made and not yet handed to the domain.
typedef struct {
    EmulatorProcess process;
    Qmp *qmp;
    GPtrArray *vnets;
} Started;

static EmulatorUser
emulator_user(const Driver *driver)
{
    return (EmulatorUser){.uid = driver->emulator_uid, .gid = driver->emulator_gid};
}

static char *
canonical_machine(const char *arch G_GNUC_UNUSED, const char *machine, gpointer opaque)
{
    return g_strdup(emulator_probe_machine(opaque, machine));
}

static gboolean
probe_format(Driver *driver, DomainImage *image, GError **error)
{
    if (!image->path || image->format || !g_file_test(image->path, G_FILE_TEST_EXISTS))
        return TRUE;
    const EmulatorUser user = emulator_user(driver);
    g_auto(ImageInfo) info = {0};
    if (!image_probe(image->path, NULL, &user, &info, error))
        return FALSE;
    if (info.backing_path) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "image '%s' names a backing file: give format= in the disk's <driver>", image->path);
        return FALSE;
    }
    image->format = g_strdup(info.format);
    return TRUE;
}

// Writes the chain below an image into the definition, each image with its format, so that nothing is left to
// what a header says later. The image's own format is known here.
static gboolean
fill_chain(Driver *driver, DomainImage *image, GError **error)
{
    const EmulatorUser user = emulator_user(driver);
    for (; image->path && !image->backing_terminated; image = image->backing) {
        if (image->backing)
            continue;
        if (g_strcmp0(image->format, "qcow2") != 0 || !g_file_test(image->path, G_FILE_TEST_EXISTS))
            return TRUE;
        g_auto(ImageInfo) info = {0};
        if (!image_probe(image->path, image->format, &user, &info, error))
            return FALSE;
        if (!info.backing_path) {
            image->backing_terminated = TRUE;
            return TRUE;
        }
        if (!info.backing_format) {
            quasar_set_error(
                error, VIR_ERR_CONFIG_UNSUPPORTED,
                "image '%s' does not record the format of its backing file '%s': give it in <backingStore>",
                image->path, info.backing_path);
            return FALSE;
        }
        image->backing = domain_image_new(image->type, info.backing_path, info.backing_format);
    }
    return TRUE;
}

gboolean
process_assign(Driver *driver, DomainDef *def, GError **error)
{
    const EmulatorUser user = emulator_user(driver);
    const char *binary = def->emulator ? def->emulator : DEFAULT_EMULATOR;
    g_autoptr(EmulatorProbe) probe = emulator_probe(binary, &user, NULL, error);
    if (!probe)
        return FALSE;
    const DomainDefaults defaults = {.arch = probe->arch,
                                     .emulator = binary,
                                     .default_machine = "q35",
                                     .canonical_machine = canonical_machine,
                                     .opaque = probe};
    for (guint i = 0; i < def->disks->len; i++) {
        DomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (!probe_format(driver, &disk->image, error) || !fill_chain(driver, &disk->image, error))
            return FALSE;
    }
    return domain_def_assign(def, &defaults, error);
}

// Lends one file. Files that all may read and that the guest only reads stay whose they are, because
// guests share them.
static gboolean
lend_file(Domain *domain, const char *path, gboolean writable, GError **error)
{
    const Driver *driver = domain->driver;
    struct stat st;
    if (stat(path, &st) < 0) {
        quasar_set_system_error(error, errno, "cannot access '%s' of domain '%s'", path, domain->name);
        return FALSE;
    }
    if (!driver->dynamic_ownership || (!writable && (st.st_mode & S_IROTH)))
        return TRUE;
    if (st.st_uid == driver->emulator_uid && st.st_gid == driver->emulator_gid)
        return TRUE;
    if (chown(path, driver->emulator_uid, driver->emulator_gid) < 0) {
        quasar_set_system_error(error, errno, "cannot give '%s' to the emulator's user", path);
        return FALSE;
    }
    domain_lock(domain);
    g_hash_table_replace(domain->original_owners, g_strdup(path),
                         g_strdup_printf("%u:%u", (guint) st.st_uid, (guint) st.st_gid));
    domain_unlock(domain);
    return TRUE;
}

static gboolean
lend_images(Domain *domain, const DomainDef *def, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(def->disks, i);
        for (const DomainImage *image = &disk->image; image; image = image->backing) {
            gboolean writable = image == &disk->image && !disk->readonly && disk->device == DOMAIN_DISK_DISK;
            if (image->path && !lend_file(domain, image->path, writable, error))
                return FALSE;
        }
    }
    return (!def->kernel || lend_file(domain, def->kernel, FALSE, error)) &&
           (!def->initrd || lend_file(domain, def->initrd, FALSE, error));
}

static void
restore_images(Domain *domain)
{
    GHashTableIter iter;
    gpointer path, owner;
    g_hash_table_iter_init(&iter, domain->original_owners);
    while (g_hash_table_iter_next(&iter, &path, &owner)) {
        guint uid, gid;
        if (sscanf(owner, "%u:%u", &uid, &gid) == 2 && chown(path, uid, gid) < 0 && errno != ENOENT)
            g_warning("cannot give '%s' back to %s: %s", (char *) path, (char *) owner, g_strerror(errno));
    }
    g_hash_table_remove_all(domain->original_owners);
}

static char **
build_command(Domain *domain, const DomainDef *def, gboolean incoming, GError **error)
{
    const EmulatorUser user = emulator_user(domain->driver);
    const char *binary = def->emulator ? def->emulator : DEFAULT_EMULATOR;
    g_autoptr(EmulatorProbe) probe = emulator_probe(binary, &user, NULL, error);
    if (!probe)
        return NULL;
    const EmulatorRun run = {.directory = domain->run_dir,
                             .binary = binary,
                             .incoming = incoming,
                             .loses_tcg_stores = probe->loses_tcg_stores};
    return emulator_command(def, &run, error);
}

static void
run_free(gpointer data)
{
    Run *run = data;
    g_clear_pointer(&run->watch, emulator_watch_free);
    domain_unref(run->domain);
    g_free(run);
}

static void
run_ended(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    const Run *run = data;
    lifecycle_emulator_ended(run->domain, run->generation);
}

static void
emulator_exited(pid_t pid G_GNUC_UNUSED, gpointer opaque)
{
    Run *run = opaque;
    driver_defer(run->domain->driver, run_ended, run, run_free);
}

static gboolean
watch_process(Domain *domain, const EmulatorProcess *process, GError **error)
{
    Run *run = g_new0(Run, 1);
    run->domain = domain_ref(domain);
    run->generation = domain->generation;
    g_autoptr(GError) failure = NULL;
    // The worker that frees `run` first waits for the domain's lock, which is held here.
    run->watch = emulator_watch(process, domain->driver->emulator, emulator_exited, run, &failure);
    if (run->watch)
        return TRUE;
    run_free(run);
    g_propagate_error(error, g_steal_pointer(&failure));
    return FALSE;
}

static Qmp *
connect_qmp(Domain *domain, pid_t pid, int timeout_ms, GError **error)
{
    g_autofree char *path = g_build_filename(domain->run_dir, "monitor.sock", NULL);
    const QmpCallbacks callbacks = {
        .event = emulator_event, .opaque = domain_ref(domain), .destroy = (GDestroyNotify) domain_unref};
    return qmp_connect(domain->driver->emulator, path, pid, timeout_ms, &callbacks, error);
}

static gboolean
launch(Domain *domain, const DomainDef *def, const ProcessOptions *options, Started *started, GError **error)
{
    const EmulatorUser user = emulator_user(domain->driver);
    g_autofree char *log = domain_log_path(domain);
    if (!lend_images(domain, def, error) || !emulator_run_directory_create(domain->run_dir, &user, error))
        return FALSE;
    g_auto(GStrv) argv = build_command(domain, def, options->incoming != NULL, error);
    if (!argv || !emulator_launch((const char *const *) argv, &user, log, &started->process, error))
        return FALSE;
    started->qmp = connect_qmp(domain, started->process.pid, CONNECT_MS, error);
    if (started->qmp)
        return TRUE;
    g_autofree char *tail = emulator_log_tail(log, LOG_TAIL);
    g_prefix_error(error, "the emulator did not start (%s): ", tail);
    return FALSE;
}

static char *
interface_nic(Domain *domain, const DomainInterface *interface, GError **error)
{
    if (interface->type == DOMAIN_INTERFACE_DIRECT)
        return g_strdup(interface->source_dev);
    if (!domain->driver->networks) {
        quasar_set_error(error, VIR_ERR_NO_NETWORK, "no network '%s': this daemon has no networks",
                         interface->network);
        return NULL;
    }
    return network_list_resolve_nic(domain->driver->networks, interface->network, error);
}

static VnetClient *
spawn_vnet(Domain *domain, const DomainInterface *interface, guint index, GError **error)
{
    g_autofree char *nic = interface_nic(domain, interface, error);
    if (!nic)
        return NULL;
    g_autofree char *mac = domain_mac_format(interface->mac);
    g_autofree char *stream = g_strdup_printf("%s/net%u.sock", domain->run_dir, index);
    g_autofree char *control = g_strdup_printf("%s/net%u.ctl", domain->run_dir, index);
    g_autofree char *log = domain_log_path(domain);
    const VnetSpec spec = {.name = domain->name,
                           .nic = nic,
                           .mac = mac,
                           .stream_path = stream,
                           .control_path = control,
                           .user = domain->driver->emulator_user,
                           .log_path = log};
    return vnet_client_spawn(&spec, error);
}

static gboolean
spawn_vnets(Domain *domain, const DomainDef *def, gboolean armed, Started *started, GError **error)
{
    for (guint i = 0; i < def->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        VnetClient *client = NULL;
        if (interface->type != DOMAIN_INTERFACE_USER) {
            client = spawn_vnet(domain, interface, i, error);
            if (!client)
                return FALSE;
        }
        g_ptr_array_add(started->vnets, client);
        if (client && !armed && !vnet_client_activate(client, FALSE, NULL, error))
            return FALSE;
    }
    return TRUE;
}

static void
fill_pty(Domain *domain, Qmp *qmp, DomainChardev *chardev, const char *alias)
{
    if (!alias)
        return;
    g_autoptr(GError) error = NULL;
    g_autofree char *id = emulator_chardev(alias);
    char *pty = monitor_query_pty(qmp, id, &error);
    if (!pty) {
        g_warning("domain '%s': no pty of %s: %s", domain->name, alias, error->message);
        return;
    }
    domain_lock(domain);
    g_free(chardev->source_path);
    chardev->source_path = pty;
    domain_unlock(domain);
}

static void
fill_ptys(Domain *domain, DomainDef *def, Qmp *qmp)
{
    for (guint i = 0; i < def->serials->len; i++) {
        DomainChardev *serial = g_ptr_array_index(def->serials, i);
        fill_pty(domain, qmp, serial, serial->info.alias);
    }
    for (guint i = 0; i < def->consoles->len; i++) {
        DomainChardev *console = g_ptr_array_index(def->consoles, i);
        gboolean paired = g_strcmp0(console->target_type, "virtio") != 0;
        // The first console of a machine with a serial port is that port under another name.
        const DomainChardev *serial =
            paired && i < def->serials->len ? g_ptr_array_index(def->serials, i) : NULL;
        fill_pty(domain, qmp, console, serial ? serial->info.alias : console->info.alias);
    }
}

static void
begin_run(Domain *domain, DomainDef *def, gboolean incoming)
{
    domain->live = def;
    domain->generation++;
    domain->incoming = incoming;
    domain->destroying = domain->shutdown_seen = domain->shutdown_by_guest = domain->fake_reboot = FALSE;
    domain->stop_expected = domain->resume_expected = FALSE;
    domain->started_at = g_get_real_time() / G_USEC_PER_SEC;
    domain_clear_messages(domain);
    domain_list_assign_id(domain->driver->domains, domain);
    g_free(domain->run_dir);
    domain->run_dir = emulator_run_directory_path(domain->driver->run_dir, domain->id, domain->name);
    domain_set_state(domain, VIR_DOMAIN_PAUSED,
                     incoming ? VIR_DOMAIN_PAUSED_MIGRATION : VIR_DOMAIN_PAUSED_STARTING_UP);
}

static gboolean
adopt(Domain *domain, Started *started, GError **error)
{
    domain->pid = started->process.pid;
    domain->pid_start = started->process.start_time;
    domain->qmp = g_steal_pointer(&started->qmp);
    g_ptr_array_unref(domain->vnets);
    domain->vnets = g_steal_pointer(&started->vnets);
    return store_save_status(domain, error) && watch_process(domain, &started->process, error);
}

static void
free_vnets(GPtrArray *vnets, gboolean quit)
{
    for (guint i = 0; i < vnets->len; i++) {
        VnetClient *client = g_ptr_array_index(vnets, i);
        if (client && quit)
            vnet_client_quit(client, NULL);
        g_clear_pointer(&client, vnet_client_free);
    }
    g_ptr_array_set_size(vnets, 0);
}

static void
undo_start(Domain *domain, Started *started)
{
    // Whatever adopt() has taken is ended by process_kill() and process_cleanup() in the same way.
    g_clear_pointer(&started->qmp, qmp_unref);
    if (started->vnets) {
        free_vnets(started->vnets, TRUE);
        g_ptr_array_unref(started->vnets);
    }
    if (started->process.pid > 0)
        emulator_kill(&started->process, 0, NULL);
    domain_lock(domain);
    process_cleanup(domain, VIR_DOMAIN_SHUTOFF_FAILED);
}

gboolean
process_start(Domain *domain, DomainDef *def, const ProcessOptions *options, GError **error)
{
    Started started = {.vnets = g_ptr_array_new()};
    begin_run(domain, def, options->incoming != NULL);
    domain_unlock(domain);
    gboolean ok = launch(domain, def, options, &started, error) &&
                  spawn_vnets(domain, def, options->vnet_armed, &started, error);
    if (ok) {
        fill_ptys(domain, def, started.qmp);
        domain_lock(domain);
        if (adopt(domain, &started, error))
            return TRUE;
        domain_unlock(domain);
    }
    undo_start(domain, &started);
    return FALSE;
}

static void
save_status_or_warn(Domain *domain)
{
    g_autoptr(GError) error = NULL;
    if (!store_save_status(domain, &error))
        g_warning("domain '%s': %s", domain->name, error->message);
}

Qmp *
domain_qmp(Domain *domain, GError **error)
{
    if (!domain_check_active(domain, error))
        return NULL;
    if (domain->qmp)
        return qmp_ref(domain->qmp);
    quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the emulator of domain '%s' is not connected yet",
                     domain->name);
    return NULL;
}

gboolean
process_continue(Domain *domain, int running_reason, GError **error)
{
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    if (!qmp)
        return FALSE;
    guint64 generation = domain->generation;
    domain->resume_expected = TRUE;
    domain_unlock(domain);
    gboolean ok = monitor_cont(qmp, error);
    domain_lock(domain);
    if (ok && generation == domain->generation && domain_is_active(domain)) {
        domain->incoming = FALSE;
        domain_set_state(domain, VIR_DOMAIN_RUNNING, running_reason);
        save_status_or_warn(domain);
    } else if (!ok) {
        domain->resume_expected = FALSE;
    }
    return ok;
}

gboolean
process_pause(Domain *domain, int paused_reason, GError **error)
{
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    if (!qmp)
        return FALSE;
    guint64 generation = domain->generation;
    domain->stop_expected = TRUE;
    domain_unlock(domain);
    gboolean ok = monitor_stop(qmp, error);
    domain_lock(domain);
    if (ok && generation == domain->generation && domain_is_active(domain)) {
        domain_set_state(domain, VIR_DOMAIN_PAUSED, paused_reason);
        save_status_or_warn(domain);
    } else if (!ok) {
        domain->stop_expected = FALSE;
    }
    return ok;
}

gboolean
process_kill(Domain *domain, gboolean graceful, GError **error)
{
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    if (process.pid <= 0)
        return TRUE;
    domain_unlock(domain);
    gboolean ok = TRUE;
    if (!graceful) {
        ok = emulator_kill(&process, TERM_GRACE_MS, error);
    } else if (emulator_is_alive(&process)) {
        g_autoptr(Qmp) qmp = NULL;
        domain_lock(domain);
        qmp = domain_qmp(domain, error);
        domain_unlock(domain);
        ok = qmp && (monitor_quit(qmp, NULL) || TRUE) && emulator_wait(&process, GRACEFUL_MS);
        if (qmp && !ok)
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                             "the emulator of domain '%s' did not end in %d s", domain->name,
                             GRACEFUL_MS / 1000);
    }
    domain_lock(domain);
    return ok;
}

void
process_cleanup(Domain *domain, int shutoff_reason)
{
    if (domain->qmp)
        qmp_close(domain->qmp);
    g_clear_pointer(&domain->qmp, qmp_unref);
    // vnet ends by itself when QEMU's socket closes; waiting for its answer here would hold the lock.
    free_vnets(domain->vnets, FALSE);
    g_clear_pointer(&domain->consoles, g_hash_table_unref);
    if (domain->run_dir)
        emulator_run_directory_remove(domain->run_dir);
    g_clear_pointer(&domain->run_dir, g_free);
    restore_images(domain);
    store_remove_status(domain);
    domain->pid = 0;
    domain->pid_start = 0;
    domain->incoming = FALSE;
    domain->updated = FALSE;
    domain_list_release_id(domain->driver->domains, domain);
    g_clear_pointer(&domain->live, domain_def_free);
    domain_set_state(domain, VIR_DOMAIN_SHUTOFF, shutoff_reason);
    if (!domain->persistent)
        domain_list_remove(domain->driver->domains, domain);
}

static void
attach_vnets(Domain *domain)
{
    for (guint i = 0; i < domain->live->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(domain->live->interfaces, i);
        g_autofree char *control = g_strdup_printf("%s/net%u.ctl", domain->run_dir, i);
        g_autoptr(GError) error = NULL;
        VnetClient *client =
            interface->type == DOMAIN_INTERFACE_USER ? NULL : vnet_client_attach(control, &error);
        if (error)
            g_warning("domain '%s': network interface %u: %s", domain->name, i, error->message);
        g_ptr_array_add(domain->vnets, client);
    }
}

// Before anything is served, so that waiting with the lock held keeps nobody waiting.
gboolean
process_reconnect(Domain *domain, GError **error)
{
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    if (!emulator_is_alive(&process)) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "its emulator (pid %d) is gone", (int) domain->pid);
        return FALSE;
    }
    domain->generation++;
    g_autoptr(GError) failure = NULL;
    g_autofree char *status = NULL;
    gboolean running;
    domain_unlock(domain);
    Qmp *qmp = connect_qmp(domain, process.pid, RECONNECT_MS, &failure);
    gboolean answered = qmp && monitor_query_status(qmp, &running, &status, &failure);
    domain_lock(domain);
    domain->qmp = qmp;
    // A frozen emulator is still a guest: it keeps its last known state.
    if (!answered)
        g_warning("domain '%s': its emulator does not answer: %s", domain->name, failure->message);
    else if (running != (domain->state == VIR_DOMAIN_RUNNING))
        emulator_state_from_runstate(status, &domain->state, &domain->reason);
    attach_vnets(domain);
    return watch_process(domain, &process, error);
}
