// The demo's two users, known to the backend and to the page.
export const USERS = {
  alice: { id: 'a11ce000-0000-4000-8000-000000000001', name: 'Alice' },
  bob: { id: 'b0b00000-0000-4000-8000-000000000002', name: 'Bob' },
}
