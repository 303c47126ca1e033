// What every kind of script asks.
async function whose(path, options) {
    const answer = await fetch(path, options);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return (await answer.json()).user;
}
