/*
 * Preloaded, it lets a program find a kernel that was booted with ipv6.disable=1: sockets of the
 * family are refused, and netlink messages that name the family name X.25 instead, of which the
 * kernel knows as little. So what the kernel answers is what it answers for a family it has not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

enum { ABSENT = AF_X25, MOST = 1 << 20 };

/* In a link's message the family is that of the settings inside IFLA_AF_SPEC. */
static void hide_in_link(struct nlmsghdr *message)
{
	int length = (int)message->nlmsg_len - (int)NLMSG_SPACE(sizeof(struct ifinfomsg));
	struct rtattr *a = (void *)((char *)NLMSG_DATA(message) + NLMSG_ALIGN(sizeof(struct ifinfomsg)));

	for (; RTA_OK(a, length); a = RTA_NEXT(a, length)) {
		struct rtattr *inner = RTA_DATA(a);

		if ((a->rta_type & NLA_TYPE_MASK) == IFLA_AF_SPEC && inner->rta_type == AF_INET6)
			inner->rta_type = ABSENT;
	}
}

ssize_t send(int fd, const void *buffer, size_t length, int flags)
{
	static ssize_t (*real)(int, const void *, size_t, int);
	static __thread char copy[MOST] __attribute__((aligned(8)));
	struct nlmsghdr *message = (void *)copy;
	int domain = 0, left = (int)length;
	socklen_t size = sizeof(domain);

	if (!real)
		real = (ssize_t(*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
	if (domain != AF_NETLINK || length > MOST)
		return real(fd, buffer, length, flags);
	memcpy(copy, buffer, length);
	for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
		unsigned char *family = NLMSG_DATA(message);

		if (message->nlmsg_type < RTM_NEWADDR)
			hide_in_link(message);
		else if (*family == AF_INET6)
			*family = ABSENT;
	}
	return real(fd, copy, length, flags);
}

int socket(int domain, int type, int protocol)
{
	static int (*real)(int, int, int);

	if (!real)
		real = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
	if (domain == AF_INET6) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	return real(domain, type, protocol);
}
