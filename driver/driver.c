// SPDX-License-Identifier: LGPL-2.1-or-later
// The shared state's construction: directories, user, threads.
#include "driver/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "driver/domains.h"
#include "driver/event.h"
#include "driver/priority.h"
#include "driver/process_images.h"

typedef struct {
    Driver *driver;
    DriverWork work;
    gpointer data;
    GDestroyNotify free_data;
} Deferred;

// Deferred work is short (an emulator's end, a fake reboot) but may wait for a job.
#define DEFERRED_THREADS 8
#define LOCK_WAIT_US     (2 * G_TIME_SPAN_SECOND)

Driver *
driver_new(const char *prefix)
{
    Driver *driver = g_new0(Driver, 1);
    const char *base = prefix ? prefix : "";
    driver->definition_dir = g_strconcat(base, SYSCONFDIR "/libvirt/quasar", NULL);
    driver->autostart_dir = g_strconcat(driver->definition_dir, "/autostart", NULL);
    driver->run_dir = g_strconcat(base, "/run/libvirt/quasar", NULL);
    driver->state_dir = g_strconcat(base, LOCALSTATEDIR "/lib/libvirt/quasar", NULL);
    driver->log_dir = g_strconcat(base, LOCALSTATEDIR "/log/libvirt/quasar", NULL);
    driver->cache_dir = g_strconcat(base, LOCALSTATEDIR "/cache/libvirt/quasar", NULL);
    driver->lock_fd = -1;
    driver->emulator_uid = getuid();
    driver->emulator_gid = getgid();
    return driver;
}

gboolean
driver_set_user(Driver *driver, const char *user, const char *group, GError **error)
{
    const struct passwd *pw = getpwnam(user);
    if (!pw) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "the emulator's user '%s' does not exist: set user in quasar.conf", user);
        return FALSE;
    }
    driver->emulator_uid = pw->pw_uid;
    driver->emulator_gid = pw->pw_gid;
    const struct group *gr = group ? getgrnam(group) : NULL;
    if (group && !gr) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "the emulator's group '%s' does not exist: set group in quasar.conf", group);
        return FALSE;
    }
    if (gr)
        driver->emulator_gid = gr->gr_gid;
    g_free(driver->emulator_user);
    driver->emulator_user = g_strdup(user);
    driver->dynamic_ownership = TRUE;
    return TRUE;
}

static gboolean
make_directories(Driver *driver, GError **error)
{
    // Guests' run-time directories must be reachable by the emulator's user, so run_dir is searchable by all.
    return file_make_directory(driver->autostart_dir, 0755, error) &&
           file_make_directory(driver->run_dir, 0755, error) &&
           file_make_directory(driver->state_dir, 0755, error) &&
           file_make_directory(driver->log_dir, 0755, error) &&
           file_make_directory(driver->cache_dir, 0755, error);
}

// Two daemons would start and end each other's guests. The lock goes with the process, however it ends.
static gboolean
take_lock(Driver *driver, GError **error)
{
    g_autofree char *path = g_build_filename(driver->run_dir, "driver.pid", NULL);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    driver->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (driver->lock_fd < 0) {
        quasar_set_system_error(error, errno, "cannot open %s", path);
        return FALSE;
    }
    // A daemon that was killed has it until the kernel is through with its end.
    gint64 deadline = g_get_monotonic_time() + LOCK_WAIT_US;
    gboolean locked;
    while (!(locked = fcntl(driver->lock_fd, F_SETLK, &lock) == 0) && g_get_monotonic_time() < deadline)
        g_usleep(20000);
    if (!locked) {
        g_autofree char *pid = NULL;
        g_file_get_contents(path, &pid, NULL, NULL);
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "another virtquasard (pid %s) runs with %s; end it first",
                         pid && *pid ? g_strchomp(pid) : "unknown", driver->run_dir);
        return FALSE;
    }
    g_autofree char *text = g_strdup_printf("%d\n", (int) getpid());
    if (ftruncate(driver->lock_fd, 0) == 0 &&
        pwrite(driver->lock_fd, text, strlen(text), 0) == (ssize_t) strlen(text))
        return TRUE;
    quasar_set_system_error(error, errno, "cannot write %s", path);
    return FALSE;
}

gboolean
driver_should_autostart(Driver *driver)
{
    // The run-time directory is empty after a boot.
    g_autofree char *path = g_build_filename(driver->run_dir, "autostarted", NULL);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 && errno != EEXIST)
        g_warning("cannot create %s: %s", path, g_strerror(errno));
    if (fd < 0)
        return FALSE;
    close(fd);
    return TRUE;
}

static gpointer
emulator_thread(gpointer data)
{
    Driver *driver = data;
    g_main_context_push_thread_default(driver->emulator);
    g_main_loop_run(driver->emulator_loop);
    g_main_context_pop_thread_default(driver->emulator);
    return NULL;
}

static void
run_deferred(gpointer data, gpointer unused G_GNUC_UNUSED)
{
    Deferred *deferred = data;
    deferred->work(deferred->driver, deferred->data);
    if (deferred->free_data)
        deferred->free_data(deferred->data);
    g_free(deferred);
}

gboolean
driver_init(Driver *driver, GMainContext *main, GError **error)
{
    if (!make_directories(driver, error) || !take_lock(driver, error))
        return FALSE;
    driver->images = image_ledger_new(driver->state_dir);
    driver->main = g_main_context_ref(main ? main : g_main_context_default());
    driver->events = event_bus_new();
    driver->domains = domain_list_new();
    driver->workers = g_thread_pool_new(run_deferred, NULL, DEFERRED_THREADS, FALSE, NULL);
    driver->emulator = g_main_context_new();
    driver->emulator_loop = g_main_loop_new(driver->emulator, FALSE);
    driver->emulator_thread = g_thread_new("emulator", emulator_thread, driver);
    return TRUE;
}

static gboolean
quit_loop(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

static void
stop_threads(Driver *driver)
{
    // From within the context: quitting before the loop runs would be lost.
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_callback(source, quit_loop, driver->emulator_loop, NULL);
    g_source_attach(source, driver->emulator);
    g_thread_join(driver->emulator_thread);
    g_thread_pool_free(driver->workers, FALSE, TRUE);
    priority_drain();
    g_main_loop_unref(driver->emulator_loop);
}

void
driver_free(Driver *driver)
{
    if (driver->emulator_thread)
        stop_threads(driver);
    g_clear_pointer(&driver->domains, domain_list_free);
    g_clear_pointer(&driver->images, image_ledger_free);
    g_clear_pointer(&driver->emulator, g_main_context_unref);
    g_clear_pointer(&driver->main, g_main_context_unref);
    g_clear_pointer(&driver->events, event_bus_free);
    g_clear_pointer(&driver->credentials, tls_credentials_unref);
    g_clear_pointer(&driver->client_credentials, tls_credentials_unref);
    g_free(driver->definition_dir);
    g_free(driver->autostart_dir);
    g_free(driver->run_dir);
    g_free(driver->state_dir);
    g_free(driver->log_dir);
    g_free(driver->cache_dir);
    if (driver->lock_fd >= 0)
        close(driver->lock_fd);
    g_free(driver->emulator_user);
    g_free(driver);
}

static Deferred *
deferred_new(Driver *driver, DriverWork work, gpointer data, GDestroyNotify free_data)
{
    Deferred *deferred = g_new(Deferred, 1);
    *deferred = (Deferred){.driver = driver, .work = work, .data = data, .free_data = free_data};
    return deferred;
}

static gboolean
give_to_worker(gpointer data)
{
    Deferred *deferred = data;
    g_thread_pool_push(deferred->driver->workers, deferred, NULL);
    return G_SOURCE_REMOVE;
}

void
driver_defer(Driver *driver, DriverWork work, gpointer data, GDestroyNotify free_data)
{
    give_to_worker(deferred_new(driver, work, data, free_data));
}

void
driver_defer_later(Driver *driver, guint wait_ms, DriverWork work, gpointer data, GDestroyNotify free_data)
{
    g_autoptr(GSource) timer = g_timeout_source_new(wait_ms);
    g_source_set_callback(timer, give_to_worker, deferred_new(driver, work, data, free_data), NULL);
    g_source_attach(timer, driver->emulator);
}
