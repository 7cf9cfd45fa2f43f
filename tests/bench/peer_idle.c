/* SPDX-License-Identifier: Apache-2.0 */
/* A limiter that limits nothing: what the kit must find out. */
void peer_idle(void);
void peer_idle(void)
{
}
