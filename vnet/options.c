// SPDX-License-Identifier: LGPL-2.1-or-later
// Parses quasar-vnet's command line.
#include "vnet/options.h"

#include <string.h>

#include "base/error.h"

gboolean
options_parse(Options *options, int argc, char **argv, GError **error)
{
    options->ready_fd = -1;
    g_autofree char *capture = NULL;
    GOptionEntry entries[] = {
        {"nic", 0, 0, G_OPTION_ARG_STRING, &options->nic, "the host's NIC", "DEV"},
        {"mac", 0, 0, G_OPTION_ARG_STRING, &options->mac_text, "the guest's MAC", "MAC"},
        {"stream", 0, 0, G_OPTION_ARG_FILENAME, &options->stream_path, "socket where QEMU listens", "PATH"},
        {"vhost", 0, 0, G_OPTION_ARG_FILENAME, &options->vhost_path, "vhost-user socket to create", "PATH"},
        {"anchor", 0, 0, G_OPTION_ARG_NONE, &options->anchor, "the guest is on another host", NULL},
        {"offload", 0, 0, G_OPTION_ARG_NONE, &options->offload, "the NIC has offloads (with --vhost)", NULL},
        {"emulator", 0, 0, G_OPTION_ARG_INT, &options->emulator, "it runs already (with --vhost)", "PID"},
        {"control", 0, 0, G_OPTION_ARG_FILENAME, &options->control_path, "control socket to create", "PATH"},
        {"user", 0, 0, G_OPTION_ARG_STRING, &options->user, "user to become", "NAME"},
        {"name", 0, 0, G_OPTION_ARG_STRING, &options->name, "the guest's name", "TEXT"},
        {"capture", 0, 0, G_OPTION_ARG_STRING, &capture, "how to capture: packet (default) or pcap", "KIND"},
        {"ready-fd", 0, 0, G_OPTION_ARG_INT, &options->ready_fd, "tell here how the start went", "FD"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- a guest's place on the physical network");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, error))
        return FALSE;
    if (argc > 1 || !options->nic || !options->mac_text || !options->control_path ||
        !!options->stream_path + !!options->vhost_path + options->anchor != 1 ||
        (options->offload && !options->vhost_path)) {
        quasar_set_error(
            error, VIR_ERR_INVALID_ARG,
            "--nic, --mac, --control and one of --stream, --vhost and --anchor must be given, see "
            "--help");
        return FALSE;
    }
    if (capture && strcmp(capture, "packet") != 0 && strcmp(capture, "pcap") != 0) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no way to capture, see --help", capture);
        return FALSE;
    }
    options->capture = capture && strcmp(capture, "pcap") == 0 ? CAPTURE_PCAP : CAPTURE_PACKET;
    if (!mac_parse(options->mac_text, &options->mac)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is not the MAC address of a NIC",
                         options->mac_text);
        return FALSE;
    }
    return TRUE;
}

void
options_clear(Options *options)
{
    g_free(options->nic);
    g_free(options->stream_path);
    g_free(options->vhost_path);
    g_free(options->control_path);
    g_free(options->user);
    g_free(options->name);
    g_free(options->mac_text);
}
