// The people of the demos, known to the backends and to the pages. The to-do demo is about the first two.
export const USERS = {
  alice: { id: 'a11ce000-0000-4000-8000-000000000001', name: 'Alice' },
  bob: { id: 'b0b00000-0000-4000-8000-000000000002', name: 'Bob' },
  cleo: { id: 'c1e00000-0000-4000-8000-000000000003', name: 'Cleo' },
  dede: { id: 'dede0000-0000-4000-8000-000000000004', name: 'Dede' },
}
