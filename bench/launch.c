/*
 * Starts a CNI plugin as a runtime does and times it: launch MODE PLUGIN NETCONF < JOBS
 * MODE is "seq" (one after another), "paced" (the same with random pauses of up to 8 ms: removals
 * must not fall into step with the kernel's grace periods) or "par" (all at once). A line of JOBS is
 * COMMAND CONTAINER IFNAME NETNS ("-": no namespace). COMMAND "remove" runs "ip link delete IFNAME"
 * instead: PLUGIN is ip. Prints "microseconds exit-status" for each
 * job in order, then "wall microseconds". Python would take longer to start a process than the
 * plugin takes to run.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096, LINE = 512 };

struct job {
	char env[6][LINE + 32];
	pid_t pid;
	double started, took;
	int status;
};

static struct job jobs[MOST];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int read_job(struct job *job)
{
	char line[4 * LINE], command[LINE], container[LINE], ifname[LINE], netns[LINE];

	if (!fgets(line, sizeof(line), stdin) ||
	    sscanf(line, "%500s %500s %500s %500s", command, container, ifname, netns) != 4)
		return 0;
	sprintf(job->env[0], "CNI_COMMAND=%s", command);
	sprintf(job->env[1], "CNI_CONTAINERID=%s", container);
	sprintf(job->env[2], "CNI_IFNAME=%s", ifname);
	sprintf(job->env[3], "CNI_PATH=/usr/lib/cni");
	sprintf(job->env[4], "PATH=/usr/sbin:/usr/bin:/sbin:/bin");
	sprintf(job->env[5], "CNI_NETNS=%s", strcmp(netns, "-") ? netns : "");
	return 1;
}

static void start(struct job *job, char *plugin, const char *netconf)
{
	char *argv[] = { plugin, NULL, "delete", NULL, NULL };
	char *env[7];
	posix_spawn_file_actions_t actions;

	for (int i = 0; i < 6; i++)
		env[i] = job->env[i];
	env[6] = NULL;
	if (strstr(job->env[0], "=remove")) {
		argv[1] = "link";
		argv[3] = strchr(job->env[2], '=') + 1;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, netconf, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	job->started = now();
	if (posix_spawn(&job->pid, plugin, &actions, NULL, argv, env))
		exit(2);
	posix_spawn_file_actions_destroy(&actions);
}

static void reap(int count)
{
	int status;
	pid_t pid = wait(&status);
	double ended = now();

	for (int i = 0; i < count; i++)
		if (jobs[i].pid == pid) {
			jobs[i].took = ended - jobs[i].started;
			jobs[i].status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
		}
}

int main(int argc, char **argv)
{
	int count = 0;
	double began;

	if (argc != 4)
		return 2;
	while (count < MOST && read_job(&jobs[count]))
		count++;
	began = now();
	srandom(1);
	for (int i = 0; i < count; i++) {
		if (!strcmp(argv[1], "paced"))
			usleep((useconds_t)(random() % 8000));
		start(&jobs[i], argv[2], argv[3]);
		if (strcmp(argv[1], "par"))
			reap(count);
	}
	if (!strcmp(argv[1], "par"))
		for (int i = 0; i < count; i++)
			reap(count);
	began = now() - began;
	for (int i = 0; i < count; i++)
		printf("%.1f %d\n", jobs[i].took, jobs[i].status);
	printf("wall %.1f\n", began);
	return 0;
}
