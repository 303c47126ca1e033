// A module that the page imports.
const answer = await fetch('/me?by=module');
export const { user } = await answer.json();
