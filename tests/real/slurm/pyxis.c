/* Stands in for Pyxis: registers its options with srun and sbatch, and writes down what arrives on the node.
 *
 *     plugstack.conf: required /path/of/pyxis.so log=/path/of/a/file
 *
 * One line for each task, before it starts: step, node-wide task, option=value ..., parted by tabs.  It puts
 * nothing into a container.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <slurm/spank.h>

SPANK_PLUGIN(pyxis, 1)

static char seen[65536];
static char log_file[4096];

static int take(int number, const char *value, int remote);

static struct spank_option options[] = {
    {"container-image", "IMAGE", "image", 1, 0, take},
    {"container-mounts", "MOUNTS", "mounts", 1, 1, take},
    {"container-workdir", "PATH", "working directory", 1, 2, take},
    {"container-env", "NAMES", "variables", 1, 3, take},
    {"container-mount-home", NULL, "with the home directory", 0, 4, take},
    {"no-container-mount-home", NULL, "without it", 0, 5, take},
    {"container-entrypoint", NULL, "with the entry point", 0, 6, take},
    {"no-container-entrypoint", NULL, "without it", 0, 7, take},
    {"container-writable", NULL, "writable", 0, 8, take},
    {"container-readonly", NULL, "read-only", 0, 9, take},
    SPANK_OPTIONS_TABLE_END,
};

static int take(int number, const char *value, int remote)
{
    size_t used = strlen(seen);

    if (remote)
        snprintf(seen + used, sizeof(seen) - used, "\t%s=%s", options[number].name, value ? value : "");
    return 0;
}

int slurm_spank_init(spank_t spank, int count, char **words)
{
    for (int i = 0; i < count; i++)
        if (!strncmp(words[i], "log=", 4))
            snprintf(log_file, sizeof(log_file), "%s", words[i] + 4);
    for (struct spank_option *one = options; one->name; one++)
        if (spank_option_register(spank, one) != ESPANK_SUCCESS)
            return -1;
    return 0;
}

int slurm_spank_task_init(spank_t spank, int count, char **words)
{
    char line[sizeof(seen) + 64];
    uint32_t step = 0, task = 0;
    int length, file;

    (void) count, (void) words;
    spank_get_item(spank, S_JOB_STEPID, &step);
    spank_get_item(spank, S_TASK_GLOBAL_ID, &task);
    length = snprintf(line, sizeof(line), "%d\t%u%s\n", (int) step, task, seen);
    file = open(log_file, O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (file < 0)
        return -1;
    if (write(file, line, length) != length)  /* in one piece: several tasks write */
        length = -1;
    close(file);
    return length < 0 ? -1 : 0;
}
