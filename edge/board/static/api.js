/* What the board answers as JSON. */

/** The body of `url`. Throws an Error with what the board says is wrong. */
export async function json(url) {
  const answer = await fetch(url);
  const body = await answer.json().catch(() => ({ error: `${url} answered ${answer.status} without JSON` }));
  return answer.ok ? body : Promise.reject(new Error(body.error));
}
