// SPDX-License-Identifier: LGPL-2.1-or-later
// virtquasard: reads its configuration, finds its guests again, serves until told to end. Guests outlive it.
#include <config.h> // not driver/config.h

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "driver/config.h"
#include "driver/driver.h"
#include "driver/lifecycle.h"
#include "driver/listen.h"
#include "driver/migration/anchor_away.h"
#include "driver/migration/anchor_home.h"
#include "driver/migration/migration.h"
#include "driver/migration/resolve.h"
#include "driver/networks.h"
#include "driver/nic_events.h"
#include "driver/procedures.h"
#include "driver/save/managed.h"
#include "driver/save/pending.h"
#include "driver/store.h"

#define CONFIG_DIR SYSCONFDIR "/libvirt"
#define PKI_DIR    SYSCONFDIR "/pki"

typedef struct {
    char *config; // NULL: the standard file, which need not exist
    int timeout;  // s; read for the sake of libvirt's command lines, without effect yet
    gboolean verbose, version;
} Arguments;

static void
arguments_clear(Arguments *arguments)
{
    g_free(arguments->config);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Arguments, arguments_clear)

static gboolean
arguments_parse(Arguments *arguments, int *argc, char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        {"config", 'f', 0, G_OPTION_ARG_FILENAME, &arguments->config, "Configuration file", "FILE"},
        {"timeout", 't', 0, G_OPTION_ARG_INT, &arguments->timeout,
         "Accepted as libvirt's daemons do; has no effect yet", "SECONDS"},
        {"verbose", 'v', 0, G_OPTION_ARG_NONE, &arguments->verbose, "Log more", NULL},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &arguments->version, "Show the version", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- runs and moves virtual machines");

    g_option_context_add_main_entries(context, entries, NULL);
    return g_option_context_parse(context, argc, argv, error);
}

// virtquasard.conf is about connections and quasar.conf about guests; both fill one set of keys.
static Config *
load_config(const Arguments *arguments, GError **error)
{
    g_autoptr(Config) config = config_new();
    const char *path = arguments->config ? arguments->config : CONFIG_DIR "/virtquasard.conf";

    if (!config_load(config, path, !arguments->config, error) ||
        !config_load(config, CONFIG_DIR "/quasar.conf", TRUE, error))
        return NULL;
    return g_steal_pointer(&config);
}

static gboolean
apply_user(Driver *driver, GError **error)
{
    const char *user = QUASAR_EMULATOR_USER, *group = NULL;
    gint64 dynamic = 1;

    if (!config_string(driver->config, "user", &user, error) ||
        !config_string(driver->config, "group", &group, error) ||
        !config_number(driver->config, "dynamic_ownership", &dynamic, error))
        return FALSE;
    driver->dynamic_ownership = dynamic != 0;
    return driver_set_user(driver, user, group, error);
}

static gboolean
apply_capture(Driver *driver, GError **error)
{
    const char *kind = "packet";

    if (!config_string(driver->config, "nic_capture", &kind, error))
        return FALSE;
    driver->pcap = g_str_equal(kind, "pcap");
    if (driver->pcap || g_str_equal(kind, "packet"))
        return TRUE;
    return quasar_set_error(error, VIR_ERR_CONF_SYNTAX,
                            "nic_capture must be \"packet\" or \"pcap\", not \"%s\"", kind);
}

// What we show to the hosts that we connect to; without it guests can come but not go.
static gboolean
load_client_credentials(Driver *driver, const char *ca, const char *crl, GError **error)
{
    const char *cert = PKI_DIR "/libvirt/clientcert.pem", *key = PKI_DIR "/libvirt/private/clientkey.pem";

    if (!g_file_test(cert, G_FILE_TEST_EXISTS)) {
        g_message("no migration from here: there is no client certificate in %s", cert);
        return TRUE;
    }
    driver->client_credentials = tls_credentials_load(ca, crl, cert, key, error);
    return driver->client_credentials != NULL;
}

// TLS is on when the server's certificate is there; then everything else must be there too.
static gboolean
load_credentials(Driver *driver, GError **error)
{
    const char *ca = PKI_DIR "/CA/cacert.pem", *crl = PKI_DIR "/CA/cacrl.pem";
    const char *cert = PKI_DIR "/libvirt/servercert.pem", *key = PKI_DIR "/libvirt/private/serverkey.pem";
    gint64 listen_tls = 1;

    if (!config_string(driver->config, "ca_file", &ca, error) ||
        !config_string(driver->config, "crl_file", &crl, error) ||
        !config_string(driver->config, "cert_file", &cert, error) ||
        !config_string(driver->config, "key_file", &key, error) ||
        !config_number(driver->config, "listen_tls", &listen_tls, error))
        return FALSE;
    if (!listen_tls || !g_file_test(cert, G_FILE_TEST_EXISTS)) {
        g_message("no TLS: %s", listen_tls ? "there is no server certificate" : "listen_tls is 0");
        return TRUE;
    }
    driver->credentials = tls_credentials_load(ca, crl, cert, key, error);
    return driver->credentials && load_client_credentials(driver, ca, crl, error);
}

static gboolean
set_up(Driver *driver, const Arguments *arguments, GError **error)
{
    driver->config = load_config(arguments, error);
    if (!driver->config || !apply_user(driver, error) || !apply_capture(driver, error) ||
        !driver_init(driver, NULL, error))
        return FALSE;

    g_autofree char *networks = g_build_filename(driver->definition_dir, "networks", NULL);
    g_autofree char *active_networks = g_build_filename(driver->run_dir, "networks", NULL);
    driver->networks = network_list_new(networks, active_networks, driver->events);
    if (!load_credentials(driver, error))
        return FALSE;
    store_load(driver);
    managed_save_scan(driver);
    resolve_start(driver);
    nic_report_add_source(anchor_home_report);
    anchor_home_start(driver);
    save_pending_settle(driver);
    anchor_away_start(driver);
    store_settle_jobs(driver);
    nic_events_start(driver);
    return TRUE;
}

static void
peer_connected(int fd, TlsSession *tls, gpointer driver)
{
    migration_accept_peer(driver, fd, tls);
}

static gboolean
end_on_signal(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

static void
autostart(Driver *driver, gpointer data G_GNUC_UNUSED)
{
    lifecycle_autostart(driver);
}

// What systemd's Type=notify waits for: a datagram to the socket that it names.
static void
tell_service_manager(const char *state)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (*path == '@')
        address.sun_path[0] = '\0';
    const socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *) &address, length) < 0)
        g_warning("cannot tell the service manager %s: %s", state, g_strerror(errno));
    if (fd >= 0)
        close(fd);
}

static gboolean
serve(Driver *driver, GError **error)
{
    const RpcServerCallbacks callbacks = {
        .session_opened = procedures_session_opened,
        .session_closed = procedures_session_closed,
        .peer_connected = peer_connected,
        .data = driver,
    };
    RpcServerLimits limits = {0};

    if (!listen_limits(driver->config, &limits, error))
        return FALSE;
    g_autoptr(RpcServer) server =
        rpc_server_new(driver->main, procedures_programs, procedures_n_programs, &callbacks, &limits);
    if (!listen_all(server, driver, error))
        return FALSE;

    g_autoptr(GMainLoop) loop = g_main_loop_new(driver->main, FALSE);
    g_unix_signal_add(SIGTERM, end_on_signal, loop);
    g_unix_signal_add(SIGINT, end_on_signal, loop);
    if (driver_should_autostart(driver))
        driver_defer(driver, autostart, NULL, NULL);
    tell_service_manager("READY=1");
    g_main_loop_run(loop);
    tell_service_manager("STOPPING=1");
    g_message("ends; guests run on");
    return TRUE;
}

static gboolean
run(const Arguments *arguments, GError **error)
{
    // These outlive the driver's threads, which read them.
    g_autoptr(Config) config = NULL;
    g_autoptr(NetworkList) networks = NULL;
    g_autoptr(Driver) driver = driver_new(NULL);
    const gboolean ready = set_up(driver, arguments, error);

    config = driver->config;
    networks = driver->networks;
    return ready && serve(driver, error);
}

int
main(int argc, char **argv)
{
    g_auto(Arguments) arguments = {0};
    g_autoptr(GError) error = NULL;

    if (!arguments_parse(&arguments, &argc, &argv, &error)) {
        g_printerr("virtquasard: %s\n", error->message);
        return EXIT_FAILURE;
    }
    if (arguments.version) {
        g_print("virtquasard %s\n", PACKAGE_VERSION);
        return EXIT_SUCCESS;
    }
    log_init(arguments.verbose ? G_LOG_LEVEL_DEBUG : G_LOG_LEVEL_MESSAGE, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (run(&arguments, &error))
        return EXIT_SUCCESS;
    g_critical("%s", error->message);
    return EXIT_FAILURE;
}
