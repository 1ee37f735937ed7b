// Search: a page or section of that very title comes before what only mentions it.
var Scorer = {
  objNameMatch: 30, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 60, partialTitle: 12, term: 5, partialTerm: 2,
};
