/*
 * coil: the CNI plugin a runtime executes for each pod. It thinks nothing: it forwards the request
 * to coild over a Unix socket, prints the answer, and is patient while coild is away.
 *
 *   main -> read_input (stdin, bounded) -> scan_netconf (socket, timeout, cniVersion)
 *        -> encode_request (variables percent-encoded in the query, stdin as body)
 *        -> converse, again and again until answered or the budget is spent
 *        -> print the body; exit 0 for HTTP status 200, else 1
 *
 * coild treats requests as idempotent, so one that was cut off is simply sent again.
 * One process, one request: memory is never freed, the exit does that.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef COIL_VERSION
#define COIL_VERSION "unknown"
#endif

#define DEFAULT_SOCKET "/run/coil/coild.sock"
#define DEFAULT_TIMEOUT 30.0
#define MAX_TIMEOUT 3600.0
#define NEWEST "1.1.0"
#define SUPPORTED "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""

enum { MAX_INPUT = 1 << 20, MAX_ANSWER = 4 << 20, MAX_VALUE = 128 << 10, MAX_DEPTH = 256 };
enum { FIRST_WAIT_MS = 5, LONGEST_WAIT_MS = 250 };
/* STATUS is asked all day and must answer soon; a restart of coild takes well below this. */
#define STATUS_TIMEOUT 2.0

/* Codes of the CNI specification. */
enum {
	CODE_ENVIRONMENT = 4,
	CODE_IO = 5,
	CODE_DECODE = 6,
	CODE_NETCONF = 7,
	CODE_TRY_AGAIN = 11,
	CODE_NOT_AVAILABLE = 50,
};

struct buffer {
	char *data;
	size_t length, size;
};

struct netconf {
	char socket[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char version[16];
	double timeout;
};

static const char *const VARIABLES[] = {
	"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH",
};

/* ---- buffers ------------------------------------------------------------------------------ */

static void reserve(struct buffer *b, size_t more)
{
	size_t size = b->size ? b->size : 4096;

	while (size - b->length < more)
		size *= 2;
	if (size == b->size)
		return;
	b->data = realloc(b->data, size);
	if (!b->data)
		_exit(1);
	b->size = size;
}

static void append(struct buffer *b, const char *data, size_t length)
{
	reserve(b, length + 1);
	memcpy(b->data + b->length, data, length);
	b->length += length;
	b->data[b->length] = '\0';
}

static void append_text(struct buffer *b, const char *text)
{
	append(b, text, strlen(text));
}

__attribute__((format(printf, 2, 3)))
static void append_format(struct buffer *b, const char *format, ...)
{
	char line[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (length > 0)
		append(b, line, (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1);
}

/* Percent-encode all but RFC 3986's unreserved characters. */
static void append_encoded(struct buffer *b, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		char code[3] = { '%', hex[c >> 4], hex[c & 15] };
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';

		append(b, plain ? (const char *)text : code, plain ? 1 : 3);
	}
}

/* A JSON string's inside. Bytes outside printable ASCII become '?': messages need no more. */
static void append_json(struct buffer *b, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		char shown = (c < 0x20 || c > 0x7e) ? '?' : (char)c;

		if (c == '"' || c == '\\')
			append(b, "\\", 1);
		append(b, &shown, 1);
	}
}

/* ---- output ------------------------------------------------------------------------------- */

/* After a failed read or write: whether to try again. Whoever made the pipe may have made it
 * non-blocking; then this waits. */
static bool may_go_on(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return errno == EINTR || (errno == EAGAIN && (poll(&p, 1, -1) > 0 || errno == EINTR));
}

static bool write_all(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && may_go_on(fd, POLLOUT))
			continue;
		if (n <= 0)
			return false;
		data += n;
		length -= (size_t)n;
	}
	return true;
}

/* Print an error object of the specification; returns the exit status. */
static int fail(const struct netconf *conf, int code, const char *message, const char *details)
{
	struct buffer out = { 0 };

	append_text(&out, "{\"cniVersion\":\"");
	append_json(&out, conf->version);
	append_format(&out, "\",\"code\":%d,\"msg\":\"", code);
	append_json(&out, message);
	append_text(&out, "\",\"details\":\"");
	append_json(&out, details);
	append_text(&out, "\"}\n");
	(void)write_all(STDOUT_FILENO, out.data, out.length);
	return 1;
}

static int answer_version(const struct netconf *conf)
{
	struct buffer out = { 0 };

	append_text(&out, "{\"cniVersion\":\"");
	append_json(&out, conf->version);
	append_text(&out, "\",\"supportedVersions\":[" SUPPORTED "]}\n");
	return write_all(STDOUT_FILENO, out.data, out.length) ? 0 : 1;
}

/* ---- netconf: a scanner over the top-level object ------------------------------------------ */

struct scanner {
	const char *at, *end;
};

static void skip_space(struct scanner *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

static bool take(struct scanner *s, char c)
{
	skip_space(s);
	if (s->at >= s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code after "\u"; -1 when there are not four hex digits. */
static int scan_unicode(struct scanner *s)
{
	int code = 0;

	for (int i = 0; i < 4; i++) {
		int digit = s->at < s->end ? hex_digit(*s->at) : -1;

		if (digit < 0)
			return -1;
		code = code * 16 + digit;
		s->at++;
	}
	return code;
}

/* One character after a backslash; -1 for what JSON does not know. */
static int scan_escape(struct scanner *s)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *known;
	char c;

	if (s->at >= s->end)
		return -1;
	c = *s->at++;
	if (c == 'u')
		return scan_unicode(s);
	known = c ? strchr(from, c) : NULL;
	return known ? (unsigned char)to[known - from] : -1;
}

/*
 * A string. What fits goes to out (NUL-terminated); *fits tells whether all did. Characters from
 * beyond ASCII written as escapes become '?': no path or key of ours has any.
 */
static bool scan_string(struct scanner *s, char *out, size_t size, bool *fits)
{
	size_t length = 0;

	*fits = true;
	if (!take(s, '"'))
		return false;
	while (s->at < s->end && *s->at != '"') {
		int c = (unsigned char)*s->at++;

		if (c < 0x20)
			return false;
		if (c == '\\' && (c = scan_escape(s)) < 0)
			return false;
		if (c == 0 || c > 0xff)
			c = '?';
		if (length + 1 < size)
			out[length++] = (char)c;
		else
			*fits = false;
	}
	if (size)
		out[length] = '\0';
	return take(s, '"');
}

static bool is_number_char(char c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* A number, or true, false, null: their text. */
static bool scan_word(struct scanner *s, char *out, size_t size)
{
	static const char *const words[] = { "true", "false", "null" };
	size_t length = 0;

	skip_space(s);
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(s->end - s->at) >= n && !memcmp(s->at, words[i], n)) {
			s->at += n;
			snprintf(out, size, "%s", words[i]);
			return true;
		}
	}
	while (s->at < s->end && is_number_char(*s->at)) {
		if (length + 1 < size)
			out[length++] = *s->at;
		s->at++;
	}
	out[length] = '\0';
	return length > 0;
}

static bool skip_value(struct scanner *s, int depth);

/* The inside of an object or array, up to its closing character. */
static bool skip_members(struct scanner *s, bool keyed, char close, int depth)
{
	bool fits;

	if (take(s, close))
		return true;
	do {
		if (keyed && (!scan_string(s, NULL, 0, &fits) || !take(s, ':')))
			return false;
		if (!skip_value(s, depth))
			return false;
	} while (take(s, ','));
	return take(s, close);
}

static bool skip_value(struct scanner *s, int depth)
{
	char word[64];
	bool fits;

	if (depth > MAX_DEPTH)
		return false;
	if (take(s, '{'))
		return skip_members(s, true, '}', depth + 1);
	if (take(s, '['))
		return skip_members(s, false, ']', depth + 1);
	if (s->at < s->end && *s->at == '"')
		return scan_string(s, NULL, 0, &fits);
	return scan_word(s, word, sizeof(word));
}

/* Returns NULL, or what is wrong with the value. */
static const char *scan_socket(struct scanner *s, struct netconf *conf)
{
	bool fits;

	skip_space(s);
	if (s->at >= s->end || *s->at != '"')
		return skip_value(s, 1) ? "socket must be a string, the path of coild's socket" : "";
	if (!scan_string(s, conf->socket, sizeof(conf->socket), &fits))
		return "";
	if (!fits)
		return "socket is longer than 107 bytes, which no Unix socket can have";
	if (conf->socket[0] != '/')
		return "socket must be an absolute path";
	return NULL;
}

static const char *scan_timeout(struct scanner *s, struct netconf *conf)
{
	static const char wrong[] = "timeout must be a number of seconds above 0, up to 3600";
	char word[64], *rest;

	skip_space(s);
	if (s->at < s->end && strchr("\"{[", *s->at))
		return skip_value(s, 1) ? wrong : "";
	if (!scan_word(s, word, sizeof(word)))
		return "";
	if (!strcmp(word, "null"))
		return NULL;
	conf->timeout = strtod(word, &rest);
	if (*rest || rest == word || !(conf->timeout > 0 && conf->timeout <= MAX_TIMEOUT)) {
		conf->timeout = DEFAULT_TIMEOUT;
		return wrong;
	}
	return NULL;
}

/* cniVersion is coild's to judge; here it only marks error objects. */
static const char *scan_version(struct scanner *s, struct netconf *conf)
{
	bool fits;

	skip_space(s);
	if (s->at >= s->end || *s->at != '"')
		return skip_value(s, 1) ? NULL : "";
	if (!scan_string(s, conf->version, sizeof(conf->version), &fits))
		return "";
	if (!fits || !conf->version[0])
		snprintf(conf->version, sizeof(conf->version), "%s", NEWEST);
	return NULL;
}

static const char *scan_member(struct scanner *s, struct netconf *conf)
{
	char key[16];
	bool fits;

	if (!scan_string(s, key, sizeof(key), &fits) || !take(s, ':'))
		return "";
	if (fits && !strcmp(key, "socket"))
		return scan_socket(s, conf);
	if (fits && !strcmp(key, "timeout"))
		return scan_timeout(s, conf);
	if (fits && !strcmp(key, "cniVersion"))
		return scan_version(s, conf);
	return skip_value(s, 1) ? NULL : "";
}

/*
 * Read what the plugin needs. Returns NULL, "" for what is not JSON, or a sentence on a value. The
 * first wrong value is kept and scanning goes on: the version may come after it.
 */
static const char *scan_netconf(const struct buffer *in, struct netconf *conf)
{
	struct scanner s = { in->data, in->data + in->length };
	const char *first = NULL;

	if (!take(&s, '{'))
		return "";
	if (!take(&s, '}')) {
		do {
			const char *wrong = scan_member(&s, conf);

			if (wrong && !*wrong)
				return "";
			if (!first)
				first = wrong;
		} while (take(&s, ','));
		if (!take(&s, '}'))
			return "";
	}
	skip_space(&s);
	return s.at == s.end ? first : "";
}

/* ---- time --------------------------------------------------------------------------------- */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int milliseconds_until(double deadline)
{
	double left = (deadline - now()) * 1000;

	return left <= 0 ? 0 : left > 1e9 ? 1000000000 : (int)left + 1;
}

/* ---- one conversation with coild ----------------------------------------------------------- */

enum outcome {
	ANSWERED,
	AWAY,	 /* not there, or gone in the middle: worth another try */
	FORBIDDEN, /* never worth one */
};

struct answer {
	struct buffer raw;
	int status;
	const char *body;
	size_t body_length;
};

static enum outcome open_socket(const char *path, int *fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memcpy(address.sun_path, path, strlen(path) + 1);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0)
		return AWAY;
	if (!connect(*fd, (struct sockaddr *)&address, sizeof(address)))
		return ANSWERED;
	/* EAGAIN: the backlog is full; ENOENT, ECONNREFUSED: coild is (re)starting. */
	if (errno == EACCES || errno == EPERM || errno == ENOTDIR || errno == EPROTOTYPE)
		return FORBIDDEN;
	return AWAY;
}

static bool wait_for(int fd, short events, double deadline)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int n = poll(&p, 1, milliseconds_until(deadline));

		if (n < 0 && errno == EINTR)
			continue;
		return n > 0;
	}
}

static bool send_request(int fd, const struct buffer *request, double deadline)
{
	size_t sent = 0;

	while (sent < request->length) {
		ssize_t n = send(fd, request->data + sent, request->length - sent, MSG_NOSIGNAL);

		if (n >= 0)
			sent += (size_t)n;
		else if (errno != EINTR && (errno != EAGAIN || !wait_for(fd, POLLOUT, deadline)))
			return false;
	}
	return true;
}

/* Find status, length and body once the head is complete; false while it is not (or is wrong). */
static bool parse_answer(struct answer *a)
{
	const char *end = a->raw.data ? strstr(a->raw.data, "\r\n\r\n") : NULL;
	const char *length;

	if (!end || strncmp(a->raw.data, "HTTP/1.1 ", 9))
		return false;
	length = strcasestr(a->raw.data, "\r\ncontent-length:");
	if (!length || length > end)
		return false;
	a->status = atoi(a->raw.data + 9);
	a->body = end + 4;
	a->body_length = strtoul(length + 17, NULL, 10);
	return true;
}

static bool is_complete(struct answer *a)
{
	return parse_answer(a) &&
	       a->raw.length - (size_t)(a->body - a->raw.data) >= a->body_length;
}

static bool receive_answer(int fd, struct answer *a, double deadline)
{
	char part[16384];

	while (a->raw.length <= MAX_ANSWER) {
		ssize_t n = recv(fd, part, sizeof(part), 0);

		if (n > 0) {
			append(&a->raw, part, (size_t)n);
			if (is_complete(a))
				return true;
		} else if (n == 0) {
			return false;
		} else if (errno != EINTR && (errno != EAGAIN || !wait_for(fd, POLLIN, deadline))) {
			return false;
		}
	}
	return false;
}

/* The request's sending side stays open: coild takes its end as the plugin's death. */
static enum outcome converse(const struct netconf *conf, const struct buffer *request,
			     double deadline, struct answer *a)
{
	enum outcome outcome;
	int fd;

	a->raw.length = 0;
	outcome = open_socket(conf->socket, &fd);
	if (outcome == ANSWERED &&
	    !(send_request(fd, request, deadline) && receive_answer(fd, a, deadline)))
		outcome = AWAY;
	if (fd >= 0)
		close(fd);
	return outcome;
}

/* Sleep a random part of wait_ms, to spread plugins that wait for the same restart. */
static void pause_before_retry(int wait_ms, double deadline)
{
	unsigned seed = (unsigned)getpid() * 2654435761u ^ (unsigned)(now() * 1e6);
	int part = wait_ms / 2 + (int)(seed % (unsigned)(wait_ms / 2 + 1));
	int left = milliseconds_until(deadline);

	(void)poll(NULL, 0, part < left ? part : left);
}

/* Try until answered, forbidden, out of time, or alone: the runtime that asked has died. */
static enum outcome persist(const struct netconf *conf, const struct buffer *request,
			    double deadline, struct answer *a)
{
	pid_t parent = getppid();
	int wait_ms = FIRST_WAIT_MS;

	for (;;) {
		enum outcome outcome = converse(conf, request, deadline, a);

		if (outcome != AWAY || now() >= deadline)
			return outcome;
		pause_before_retry(wait_ms, deadline);
		wait_ms = wait_ms * 2 < LONGEST_WAIT_MS ? wait_ms * 2 : LONGEST_WAIT_MS;
		if (getppid() != parent)
			_exit(1);
	}
}

/* ---- the program -------------------------------------------------------------------------- */

/* Standard streams that were closed would be taken by our socket. */
static void occupy_standard_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Returns false when there is more than MAX_INPUT or it cannot be read. */
static bool read_input(struct buffer *in)
{
	for (;;) {
		ssize_t n;

		reserve(in, 65537);
		n = read(STDIN_FILENO, in->data + in->length, 65536);
		if (n < 0 && may_go_on(STDIN_FILENO, POLLIN))
			continue;
		if (n < 0)
			return false;
		if (n == 0)
			break;
		in->length += (size_t)n;
		if (in->length > MAX_INPUT)
			return false;
	}
	in->data[in->length] = '\0';
	return true;
}

/* Returns NULL, or the name of a variable that is too long. */
static const char *encode_request(const struct buffer *in, struct buffer *out)
{
	const char *separator = "?";

	append_text(out, "POST /cni");
	for (size_t i = 0; i < sizeof(VARIABLES) / sizeof(*VARIABLES); i++) {
		const char *value = getenv(VARIABLES[i]);

		if (!value)
			continue;
		if (strlen(value) > MAX_VALUE)
			return VARIABLES[i];
		append_text(out, separator);
		append_text(out, VARIABLES[i]);
		append_text(out, "=");
		append_encoded(out, value);
		separator = "&";
	}
	append_format(out,
		      " HTTP/1.1\r\nHost: coil\r\nContent-Type: application/json\r\n"
		      "Content-Length: %zu\r\nConnection: close\r\n\r\n",
		      in->length);
	append(out, in->data, in->length);
	return NULL;
}

static int report_away(const struct netconf *conf, bool is_status, double budget)
{
	struct buffer details = { 0 };

	append_format(&details, "no answer on %s within %.1f s; is coild running? "
		      "(systemctl status coild; netconf keys: socket, timeout)", conf->socket, budget);
	return fail(conf, is_status ? CODE_NOT_AVAILABLE : CODE_TRY_AGAIN, "coild does not answer",
		    details.data);
}

static int forward(const struct netconf *conf, const char *command, const struct buffer *in)
{
	bool is_status = !strcmp(command, "STATUS");
	double budget = is_status && conf->timeout > STATUS_TIMEOUT ? STATUS_TIMEOUT : conf->timeout;
	struct buffer request = { 0 };
	struct answer answer = { 0 };
	const char *too_long = encode_request(in, &request);

	if (too_long)
		return fail(conf, CODE_ENVIRONMENT, too_long, "the variable is longer than 128 KiB");
	switch (persist(conf, &request, now() + budget, &answer)) {
	case ANSWERED:
		break;
	case FORBIDDEN:
		return fail(conf, CODE_IO, "cannot connect to coild's socket", conf->socket);
	default:
		return report_away(conf, is_status, budget);
	}
	if (!write_all(STDOUT_FILENO, answer.body, answer.body_length))
		return 1;
	return answer.status == 200 ? 0 : 1;
}

static int explain_itself(void)
{
	static const char text[] =
		"coil " COIL_VERSION ": CNI plugin; container runtimes execute it with CNI_COMMAND "
		"set and a network configuration on standard input.\n"
		"For people there is coilctl.\n";

	return write_all(STDERR_FILENO, text, sizeof(text) - 1) ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct netconf conf = { .socket = DEFAULT_SOCKET, .version = NEWEST,
				.timeout = DEFAULT_TIMEOUT };
	struct buffer in = { 0 };
	const char *command = getenv("CNI_COMMAND"), *wrong;

	(void)argv;
	occupy_standard_streams();
	signal(SIGPIPE, SIG_IGN); /* a runtime that does not listen any more: exit status 1 */
	if (!command || !*command) {
		explain_itself();
		return argc > 1 ? 0
				: fail(&conf, CODE_ENVIRONMENT, "CNI_COMMAND is missing",
				       "coil is executed by container runtimes");
	}
	if (!read_input(&in))
		return fail(&conf, CODE_DECODE, "standard input cannot be read",
			    "a network configuration has at most 1 MiB");
	wrong = in.length ? scan_netconf(&in, &conf) : "";
	/* Runtimes find out by VERSION; what else is wrong with the netconf is for later. */
	if (!strcmp(command, "VERSION") && (!wrong || *wrong || !in.length))
		return answer_version(&conf);
	if (wrong && !*wrong)
		return fail(&conf, CODE_DECODE, "standard input is not a JSON object",
			    "the runtime must send the network configuration");
	if (wrong)
		return fail(&conf, CODE_NETCONF, wrong, "mend the network configuration");
	return forward(&conf, command, &in);
}
