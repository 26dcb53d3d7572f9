/*
 * Feeds mutated network configurations and environments to the plugin's scanner and encoder, under
 * sanitizers. Deterministic: fuzz SEED ROUNDS. Exits 0 when nothing broke.
 */
#define main coil_main
#include "coil.c"
#undef main

static const char *const CORPUS[] = {
	"{\"cniVersion\":\"1.0.0\",\"name\":\"coil\",\"type\":\"coil\",\"socket\":\"/run/coil/x\"}",
	"{\"timeout\":1.5e1,\"a\":[1,2,{\"b\":[null,true,false]}],\"cniVersion\":\"0.4.0\"}",
	"{\"prevResult\":{\"ips\":[{\"address\":\"10.0.0.1/32\"}]},\"socket\":\"\\u002fa\\n\\\"\"}",
	" { \"x\" : { } , \"y\" : [ ] , \"timeout\" : null , \"socket\" : \"/b\" } ",
	"{\"socket\":5,\"timeout\":\"x\",\"cniVersion\":{}}",
	"{}",
};

static uint64_t state;

static unsigned next(unsigned below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state % below);
}

static void mutate(struct buffer *b)
{
	static const char interesting[] = "{}[]\",:\\u0\0 -+.eE\xff\x80tfn/";
	size_t at = b->length ? next((unsigned)b->length) : 0;

	switch (b->length ? next(5) : 0) {
	case 0:
		append(b, &interesting[next(sizeof(interesting))], 1);
		break;
	case 1:
		b->data[at] = interesting[next(sizeof(interesting))];
		break;
	case 2:
		b->data[at] ^= (char)(1u << next(8));
		break;
	case 3:
		b->length = at;
		break;
	default:
		for (unsigned n = next(600); n; n--)
			append(b, &b->data[at], 1);
	}
}

static void try_environment(void)
{
	char value[257];

	for (size_t i = 0; i < sizeof(VARIABLES) / sizeof(*VARIABLES); i++) {
		size_t length = next(256);

		for (size_t k = 0; k < length; k++)
			value[k] = (char)(1 + next(255));
		value[length] = '\0';
		setenv(VARIABLES[i], value, 1);
	}
}

static void one_round(void)
{
	const char *seed = CORPUS[next(sizeof(CORPUS) / sizeof(*CORPUS))];
	struct netconf conf = { .socket = DEFAULT_SOCKET, .version = NEWEST, .timeout = 1 };
	struct buffer exact = { 0 }, in = { 0 }, out = { 0 };
	struct answer answer = { 0 };

	append_text(&in, seed);
	for (unsigned n = next(12); n; n--)
		mutate(&in);
	/* A copy of exactly this size lets the sanitizer see a read past the end. */
	exact.data = malloc(in.length ? in.length : 1);
	memcpy(exact.data, in.data, in.length);
	exact.length = in.length;
	(void)scan_netconf(&exact, &conf);
	if (memchr(conf.socket, '\0', sizeof(conf.socket)) == NULL || conf.timeout <= 0)
		abort();
	try_environment();
	(void)encode_request(&in, &out);
	append(&answer.raw, in.data, in.length);
	(void)is_complete(&answer);
	free(exact.data);
	free(in.data);
	free(out.data);
	free(answer.raw.data);
}

int main(int argc, char **argv)
{
	state = argc > 1 ? strtoull(argv[1], NULL, 10) * 2654435761u + 1 : 1;
	for (unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : 10000; n; n--)
		one_round();
	return 0;
}
