// SPDX-License-Identifier: LGPL-2.1-or-later
// Asking an emulator binary what it can do, and remembering the answer.
#include "emulator/probe.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/frame.h"
#include "emulator/arch.h"
#include "emulator/child.h"
#include "emulator/qmp.h"

// Theory of operation: the binary is started without a machine, its monitor on a socket pair, so that no path
// is needed that its user could reach. The answers (raw, as one JSON object) are what the cache file holds:
// a fresh answer and a cached one are read by the same code. Hits take only `table_lock`; a miss takes
// `run_lock` first, so that a binary is run once however many threads ask.

#define PROBE_TIMEOUT_MS 20000
#define DIRECTORIES      "-L help" // the question's name among the answers
// Raise it when more is asked than before, so that older files count as misses.
#define CACHE_FORMAT 4

static GMutex table_lock;
static GHashTable *table; // path -> EmulatorProbe
static GMutex run_lock;

static void
machine_free(gpointer data)
{
    EmulatorMachine *machine = data;
    g_free(machine->name);
    g_free(machine->alias);
    g_free(machine);
}

EmulatorProbe *
emulator_probe_ref(EmulatorProbe *probe)
{
    g_atomic_int_inc(&probe->refs);
    return probe;
}

void
emulator_probe_unref(EmulatorProbe *probe)
{
    if (!probe || !g_atomic_int_dec_and_test(&probe->refs))
        return;
    g_free(probe->path);
    g_free(probe->arch);
    g_free(probe->package);
    g_ptr_array_unref(probe->machines);
    g_ptr_array_unref(probe->cpu_models);
    g_strfreev(probe->directories);
    emulator_traits_free(probe->traits);
    g_free(probe);
}

const char *
emulator_probe_machine(const EmulatorProbe *probe, const char *name)
{
    for (guint i = 0; i < probe->machines->len; i++) {
        const EmulatorMachine *machine = g_ptr_array_index(probe->machines, i);
        if (g_str_equal(machine->name, name) || g_strcmp0(machine->alias, name) == 0)
            return machine->name;
    }
    return NULL;
}

gboolean
emulator_probe_has_cpu_model(const EmulatorProbe *probe, const char *name)
{
    for (guint i = 0; i < probe->cpu_models->len; i++)
        if (g_str_equal(g_ptr_array_index(probe->cpu_models, i), name))
            return TRUE;
    return FALSE;
}

const char *
emulator_probe_steady_machine(const EmulatorProbe *probe, const char *name)
{
    const char *version = strrchr(name, '-');
    if (!version)
        return name;
    g_autofree char *wanted = g_strdup_printf("%.*s-quasar%s", (int) (version - name), name, version);
    const char *found = emulator_probe_machine(probe, wanted);
    return found ? found : name;
}

gulong
emulator_probe_version(const EmulatorProbe *probe)
{
    return probe->major * 1000000ul + probe->minor * 1000ul + probe->micro;
}

static void
take_machines(EmulatorProbe *probe, json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (!name)
            continue;
        EmulatorMachine *machine = g_new0(EmulatorMachine, 1);
        machine->name = g_strdup(name);
        machine->alias = g_strdup(json_string_value(json_object_get(item, "alias")));
        machine->max_cpus = json_integer_value(json_object_get(item, "cpu-max"));
        machine->is_default = json_is_true(json_object_get(item, "is-default"));
        machine->deprecated = json_is_true(json_object_get(item, "deprecated"));
        g_ptr_array_add(probe->machines, machine);
    }
}

// Of PowerPC those that the machines of ours can have, in libvirt's capitals, which the emulator takes as
// well.
static void
take_cpu_models(EmulatorProbe *probe, const char *target, json_t *list)
{
    g_autofree char *suffix = g_strdup_printf("-%s-cpu", target);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (!name)
            continue;
        gsize length = strlen(name);
        if (g_str_has_suffix(name, suffix))
            length -= strlen(suffix);
        if (!g_str_has_prefix(target, "ppc"))
            g_ptr_array_add(probe->cpu_models, g_strndup(name, length));
        else if (g_str_has_prefix(name, "power"))
            g_ptr_array_add(probe->cpu_models, g_ascii_strup(name, -1));
    }
}

// NULL when the answers lack what every emulator tells.
static EmulatorProbe *
read_answers(const char *path, gint64 mtime_ns, gint64 size, json_t *answers)
{
    int major, minor, micro;
    const char *package, *target, *directories;
    json_t *machines, *cpu_models, *types;
    if (json_unpack(answers, "{s:{s:{s:i, s:i, s:i}, s:s}, s:{s:s}, s:o, s:o, s:o, s:s}", "query-version",
                    "qemu", "major", &major, "minor", &minor, "micro", &micro, "package", &package,
                    "query-target", "arch", &target, "query-machines", &machines, "query-cpu-definitions",
                    &cpu_models, "qom-list-types", &types, DIRECTORIES, &directories) < 0 ||
        major < 0 || minor < 0 || micro < 0)
        return NULL;
    const EmulatorArch *arch = emulator_arch_of_target(target);
    EmulatorProbe *probe = g_new0(EmulatorProbe, 1);
    *probe = (EmulatorProbe){
        .path = g_strdup(path),
        .mtime_ns = mtime_ns,
        .size = size,
        .arch = g_strdup(arch ? arch->name : target),
        .major = major,
        .minor = minor,
        .micro = micro,
        .package = g_strdup(package),
        .machines = g_ptr_array_new_with_free_func(machine_free),
        .cpu_models = g_ptr_array_new_with_free_func(g_free),
        .directories = g_strsplit(directories, "\n", -1),
        .traits = emulator_traits_new((guint) major, types),
        .refs = 1,
    };
    take_machines(probe, machines);
    take_cpu_models(probe, target, cpu_models);
    probe->loses_tcg_stores = emulator_traits_loses_stores(probe->traits);
    return probe;
}

static gpointer
run_loop(gpointer data)
{
    GMainLoop *loop = data;
    g_main_context_push_thread_default(g_main_loop_get_context(loop));
    g_main_loop_run(loop);
    g_main_context_pop_thread_default(g_main_loop_get_context(loop));
    return NULL;
}

static gboolean
stop_loop(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

// Takes the socket.
static json_t *
ask(GMainContext *context, int fd, GError **error)
{
    static const char *const questions[] = {"query-version", "query-target", "query-machines",
                                            "query-cpu-definitions", "qom-list-types"};
    gint64 deadline_us = g_get_monotonic_time() + PROBE_TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    g_autoptr(Qmp) qmp = qmp_new(context, fd, PROBE_TIMEOUT_MS, NULL, error);
    if (!qmp)
        return NULL;
    g_autoptr(json_t) answers = json_object();
    for (gsize i = 0; i < G_N_ELEMENTS(questions); i++) {
        int left_ms = MAX((deadline_us - g_get_monotonic_time()) / 1000, 0);
        json_t *arguments = g_str_equal(questions[i], "qom-list-types") ? emulator_traits_question() : NULL;
        json_t *answer = qmp_execute(qmp, questions[i], arguments, left_ms, error);
        if (!answer)
            return NULL;
        json_object_set_new(answers, questions[i], answer);
    }
    return g_steal_pointer(&answers);
}

// The client needs a thread that reads its socket; this one waits for the replies.
static json_t *
ask_with_reader(int fd, GError **error)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GMainLoop) loop = g_main_loop_new(context, FALSE);
    GThread *reader = g_thread_new("probe", run_loop, loop);
    json_t *answers = ask(context, fd, error);
    // As a source of its own: a quit that comes before the loop runs would be lost.
    g_autoptr(GSource) stop = g_idle_source_new();
    g_source_set_callback(stop, stop_loop, loop, NULL);
    g_source_attach(stop, context);
    g_thread_join(reader);
    return answers;
}

// One in a line; "" from an emulator that does not know the question.
static char *
ask_directories(const char *path, const EmulatorUser *user)
{
    const char *argv[] = {path, "-L", "help", NULL};
    char *answer = NULL;
    g_autoptr(Child) child = child_start(argv, user, -1, 0, NULL);
    gboolean answered = child && child_finish(child, PROBE_TIMEOUT_MS, &answer, NULL);
    if (!answered || !g_utf8_validate(answer, -1, NULL)) {
        g_free(answer);
        answer = g_strdup("");
    }
    return g_strchomp(answer);
}

static json_t *
run_binary(const char *path, const EmulatorUser *user, GError **error)
{
    // No /dev/kvm is needed to ask, and without it the answer is the same on every host.
    const char *argv[] = {path,
                          "-S",
                          "-no-user-config",
                          "-nodefaults",
                          "-nographic",
                          "-machine",
                          "none,accel=tcg",
                          "-chardev",
                          "socket,id=monitor,fd=3",
                          "-mon",
                          "chardev=monitor,mode=control",
                          NULL};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        quasar_set_system_error(error, errno, "cannot make a socket pair");
        return NULL;
    }
    g_autoptr(Child) child = child_start(argv, user, ends[1], 0, error);
    // Ours must be closed for the end of the child to be seen.
    close(ends[1]);
    if (!child) {
        close(ends[0]);
        return NULL;
    }
    g_autoptr(GError) problem = NULL;
    json_t *answers = ask_with_reader(ends[0], &problem);
    g_autofree char *complaint = child_kill(child);
    if (!answers)
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "'%s' does not tell what an emulator tells of itself: %s%s%s", path,
                         problem->message, *complaint ? ": " : "", complaint);
    g_autofree char *directories = answers ? ask_directories(path, user) : NULL;
    if (answers)
        json_object_set_new(answers, DIRECTORIES, json_string(directories));
    return answers;
}

static char *
cache_path(const char *directory, const char *path)
{
    g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, path, -1);
    return g_strdup_printf("%s/emulator-%.16s.json", directory, digest);
}

static EmulatorProbe *
cache_load(const char *directory, const char *path, gint64 mtime_ns, gint64 size)
{
    g_autofree char *file = cache_path(directory, path);
    g_autoptr(json_t) entry = json_load_file(file, 0, NULL);
    int format;
    const char *cached_path;
    json_int_t cached_mtime, cached_size;
    json_t *answers;
    if (!entry ||
        json_unpack(entry, "{s:i, s:s, s:I, s:I, s:o}", "format", &format, "path", &cached_path, "mtime_ns",
                    &cached_mtime, "size", &cached_size, "answers", &answers) < 0 ||
        format != CACHE_FORMAT || !g_str_equal(cached_path, path) || cached_mtime != mtime_ns ||
        cached_size != size)
        return NULL;
    return read_answers(path, mtime_ns, size, answers);
}

// The answer is good without its cache, so a failure only costs the time of the next run.
static void
cache_store(const char *directory, const EmulatorProbe *probe, json_t *answers)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = cache_path(directory, probe->path);
    g_autoptr(json_t) entry =
        json_pack("{s:i, s:s, s:I, s:I, s:O}", "format", CACHE_FORMAT, "path", probe->path, "mtime_ns",
                  (json_int_t) probe->mtime_ns, "size", (json_int_t) probe->size, "answers", answers);
    char *text = entry ? json_dumps(entry, JSON_COMPACT) : NULL;
    if (!text || !file_make_directory(directory, 0700, &error) || !file_replace(file, text, -1, 0600, &error))
        g_warning("the probe of '%s' is not cached: %s", probe->path,
                  error ? error->message : "cannot be encoded");
    free(text);
}

static EmulatorProbe *
table_lookup(const char *path, gint64 mtime_ns, gint64 size)
{
    g_mutex_lock(&table_lock);
    EmulatorProbe *probe = table ? g_hash_table_lookup(table, path) : NULL;
    if (probe)
        probe = probe->mtime_ns == mtime_ns && probe->size == size ? emulator_probe_ref(probe) : NULL;
    g_mutex_unlock(&table_lock);
    return probe;
}

static void
table_insert(EmulatorProbe *probe)
{
    g_mutex_lock(&table_lock);
    if (!table)
        table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) emulator_probe_unref);
    g_hash_table_replace(table, g_strdup(probe->path), emulator_probe_ref(probe));
    g_mutex_unlock(&table_lock);
}

// run_lock is held.
static EmulatorProbe *
probe_anew(const char *path, gint64 mtime_ns, gint64 size, const EmulatorUser *user,
           const char *cache_directory, GError **error)
{
    EmulatorProbe *probe = table_lookup(path, mtime_ns, size);
    if (probe)
        return probe;
    probe = cache_directory ? cache_load(cache_directory, path, mtime_ns, size) : NULL;
    if (!probe) {
        g_autoptr(json_t) answers = run_binary(path, user, error);
        if (!answers)
            return NULL;
        probe = read_answers(path, mtime_ns, size, answers);
        if (!probe) {
            quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "'%s' does not answer as an emulator does",
                             path);
            return NULL;
        }
        if (cache_directory)
            cache_store(cache_directory, probe, answers);
    }
    table_insert(probe);
    return probe;
}

EmulatorProbe *
emulator_probe(const char *path, const EmulatorUser *user, const char *cache_directory, GError **error)
{
    struct stat facts;
    if (stat(path, &facts) < 0) {
        quasar_set_system_error(error, errno, "cannot find emulator '%s'", path);
        return NULL;
    }
    if (!S_ISREG(facts.st_mode)) {
        quasar_set_system_error(error, EACCES, "emulator '%s' is not a program", path);
        return NULL;
    }
    gint64 mtime_ns = facts.st_mtim.tv_sec * G_GINT64_CONSTANT(1000000000) + facts.st_mtim.tv_nsec;
    gint64 size = facts.st_size;
    EmulatorProbe *probe = table_lookup(path, mtime_ns, size);
    if (probe)
        return probe;
    g_mutex_lock(&run_lock);
    probe = probe_anew(path, mtime_ns, size, user, cache_directory, error);
    g_mutex_unlock(&run_lock);
    return probe;
}
