// Copyright (c) 2026, The pvecri authors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A web server for test images: webserver PORT.  It answers every request with one page and, as the servers
// do whose names it goes by in the images, has a master that a worker serves for, tells both apart in its
// process titles, writes its master's pid to /var/run/NAME.pid and logs to its standard error.

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char page[] = "<!DOCTYPE html>\n<title>It works</title>\n<h1>It works</h1>\n";
static volatile sig_atomic_t worker;

static void fail(const char *name, const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
	exit(1);
}

static void forward(int number)
{
	(void)number;
	kill(worker, SIGKILL);
}

// Write a title over the arguments, which lie one behind the other; what does not fit is cut off.
static void set_title(int argc, char **argv, const char *name, const char *role)
{
	char title[128];
	char *end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
	size_t room = (size_t)(end - argv[0]);

	snprintf(title, sizeof(title), "%s: %s process", name, role);
	memset(argv[0], 0, room);
	memcpy(argv[0], title, strlen(title) < room ? strlen(title) : room - 1);
}

static int listen_on(const char *name, int port)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	struct sockaddr_in old = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int yes = 1, no = 0, listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener >= 0) {
		setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
		setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
		if (bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 64) == 0)
			return listener;
		close(listener);
	}
	// Without IPv6.
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (listener < 0 || bind(listener, (struct sockaddr *)&old, sizeof(old)) || listen(listener, 64))
		fail(name, "listen");
	return listener;
}

static void answer(const char *name, int connection)
{
	struct timeval patience = {.tv_sec = 5};
	char request[2048] = "", header[256];
	size_t length = 0;
	ssize_t count;

	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	while (length < sizeof(request) - 1 && !strstr(request, "\r\n\r\n")) {
		count = read(connection, request + length, sizeof(request) - 1 - length);
		if (count <= 0)
			break;
		length += (size_t)count;
		request[length] = 0;
	}
	if (!length)
		return;
	snprintf(header, sizeof(header),
		 "HTTP/1.1 200 OK\r\nServer: %s\r\nContent-Type: text/html\r\nContent-Length: %zu\r\n"
		 "Connection: close\r\n\r\n", name, sizeof(page) - 1);
	if (write(connection, header, strlen(header)) > 0 && write(connection, page, sizeof(page) - 1) > 0)
		fprintf(stderr, "%s: \"%.*s\" 200 %zu\n", name, (int)strcspn(request, "\r\n"), request, sizeof(page) - 1);
}

static void serve(const char *name, int listener)
{
	for (;;) {
		int connection = accept(listener, NULL, NULL);

		if (connection < 0)
			continue;
		answer(name, connection);
		close(connection);
	}
}

int main(int argc, char **argv)
{
	char name[64], path[128];
	FILE *pid_file;
	int listener, port;

	if (argc < 2 || (port = atoi(argv[1])) <= 0) {
		fprintf(stderr, "usage: %s PORT\n", argv[0]);
		return 2;
	}
	snprintf(name, sizeof(name), "%s", strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0]);
	signal(SIGPIPE, SIG_IGN);
	listener = listen_on(name, port);
	worker = fork();
	if (worker < 0)
		fail(name, "fork");
	if (worker == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		set_title(argc, argv, name, "worker");
		serve(name, listener);
	}
	signal(SIGTERM, forward);
	signal(SIGINT, forward);
	signal(SIGQUIT, forward);
	signal(SIGWINCH, forward);
	set_title(argc, argv, name, "master");
	snprintf(path, sizeof(path), "/var/run/%s.pid", name);
	pid_file = fopen(path, "w");
	if (pid_file) {
		fprintf(pid_file, "%d\n", (int)getpid());
		fclose(pid_file);
	}
	fprintf(stderr, "%s: serving on port %d\n", name, port);
	while (waitpid(worker, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}
